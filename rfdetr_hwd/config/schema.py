"""The configuration of a run, in frozen sections. One file configures one run.

This module imports neither torch nor rfdetr, so a wrong configuration is reported at once.
"""

from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.config.parts import check_part
from rfdetr_hwd.config.section import Probability, Section

Variant = Literal["nano", "small", "medium", "base", "large"]
Level = Literal["P3", "P4", "P5"]

RESOLUTION_STEP: dict[str, int] = {"nano": 32, "small": 32, "medium": 32, "base": 56, "large": 32}
"""Pixels that the resolution must be a multiple of: patch size times windows per row. At the stem it is twice that."""


class ModelSection(Section):
    """Which RF-DETR is built. `null` keeps the variant's own value."""

    variant: Variant = "nano"
    """The RF-DETR variant whose architecture is built."""
    levels: tuple[Level, ...] = ("P4", "P5")
    """Feature levels of the projector, in ascending order. The stride-2 convolution is in P5 alone."""
    resolution: PositiveInt | None = None
    """Input resolution in pixels (square). A multiple of 32 (base: 56), at the stem of 64 (base: 112)."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image is resized to the square: `stretch` as upstream does; `letterbox` keeps the aspect ratio."""
    pretrain_weights: str | None = "auto"
    """`auto`: the variant's published COCO weights; a path: a run, a checkpoint or a .pth; `null`: random weights."""
    strict_weights: bool = True
    """Refuse pretrained weights with keys or shapes that no mapping covers. `false` draws those parts at random."""
    num_queries: PositiveInt | None = None
    """Object queries, which limit the number of objects found in one image."""
    num_select: PositiveInt | None = None
    """Detections per image: the top pairs of query and class. `null`: as many as there are queries."""
    group_detr: PositiveInt | None = None
    """Query groups trained in parallel (Group DETR). Evaluation uses the first."""
    freeze_encoder: bool = False
    """Do not train the DINOv2 encoder."""
    gradient_checkpointing: bool = False
    """Recompute the encoder's activations in the backward pass: less memory, more time."""
    dropout: Probability = 0.0
    """Dropout of the decoder."""
    drop_path: Probability = 0.0
    """Stochastic depth of the encoder."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be a non-empty ascending choice of P3, P4, P5, not {list(self.levels)}")
        return self


class DownsampleSection(Section):
    """The downsampler that replaces the stride-2 convolution."""

    name: str = "hwd"
    """A name of `rfdetr-hwd downsample list` (conv3x3 is stock RF-DETR), or a class as package.module:Class."""
    site: Literal["projector", "stem"] = "projector"
    """Where it goes: the P5 branch of the projector, or before the patch embedding at twice the resolution."""
    backend: Literal["fused", "pytorch_wavelets"] = "fused"
    """How hwd and dwt are computed: one convolution with the folded kernel, or the library. Same parameters."""
    init: Literal["default", "equal"] = "default"
    """`equal` initialises hwd, spd and conv2x2 to the same folded kernel, for a controlled comparison."""
    options: dict[str, str | int | float | bool] = {}
    """Options of the downsampler, for example `wavelet` of dwt."""


class SplitSection(Section):
    """A split given by its annotation file and its image directory. Paths are absolute or relative to `data.root`."""

    annotations: str
    """The annotation file (COCO)."""
    images: str | None = None
    """The directory of the images. `null`: it is searched for."""


def _check_split(value: object) -> object:
    """Refuse an invalid split with one message that shows both forms."""
    is_known = value is None or isinstance(value, str | SplitSection)
    if isinstance(value, dict):
        is_known = isinstance(value.get("annotations"), str) and isinstance(value.get("images", ""), str | None)
        is_known = is_known and value.keys() <= SplitSection.model_fields.keys()
    if is_known:
        return value
    raise ValueError(f"must be NAME or {{annotations: FILE, images: DIRECTORY}}, not {value!r}")


SplitName = Annotated[str | SplitSection | None, BeforeValidator(_check_split)]


class DataSection(Section):
    """The dataset and how it is read."""

    root: str
    """Directory of the dataset."""
    format: Literal["auto", "coco", "roboflow", "yolo", "webdataset", "voc"] = "auto"
    """Format of the dataset. `auto` detects it."""
    train: SplitName = None
    """The training split: its name, its annotation file, or `{annotations: FILE, images: DIRECTORY}`. `null`: the split
    called train, training, train2017 or similar."""
    val: SplitName = None
    """The validation split, in the same forms. `null`: the split called val, valid, validation, val2017 or similar."""
    test: SplitName = None
    """The test split, in the same forms. `null`: the split called test, test2017 or similar."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the training images to hold out for validation, for a dataset without a validation split. The choice
    is stratified by class. Near-duplicates stay in one split. A new run then decodes every image once before training
    starts. `null`: the dataset has a validation split."""
    val_seed: NonNegativeInt = 0
    """Seed of the held-out images. It is independent of `train.seed`, so that runs with other seeds share the split."""
    val_part: PositiveInt | None = None
    """Cross-validation: divide the training images into 1 / `val_fraction` equal parts, and hold out the part of this
    number, from 1. The dataset may then have a validation split, which is not used."""
    allow: tuple[str, ...] = ()
    """Kinds of error in the annotations to accept, as `rfdetr-hwd data check` names them."""
    bit_depth: Literal["auto", 8, 10, 12, 14, 16] = "auto"
    """Bits in use of images with 16 bits per channel. Larger values are clipped. Cameras write 10, 12 or 14 bits into
    16-bit files, and such files are almost black when they are read as 16. `auto`: the smallest number that holds every
    value of the training images decoded before the first epoch (all of them, or 1,000 drawn by `train.seed`); 16 if
    none of them has 16 bits. The run records the number. Evaluation and prediction use the recorded number."""
    exif: Literal["auto", "apply", "ignore"] = "auto"
    """Use of the EXIF orientation of images. `apply`: rotate every image upright and take the annotations as those of
    the upright image. `ignore`: read every image as stored and take the annotations as those of the stored image.
    `auto`: `ignore` for images annotated with their stored width and height where these are not the upright ones,
    and for all images of a split that has such images and none annotated upright; `apply` for all others. An image
    without annotations is rotated upright unless the key is `ignore`."""
    on_bad_image: Literal["quarantine", "fail"] = "quarantine"
    """`quarantine`: replace an unreadable image and list it in quarantine.jsonl. `fail`: stop at the first one."""
    workers: NonNegativeInt = 2
    """Data loader workers per rank. 0 loads in the main process. The batches do not depend on the number."""
    worker_timeout: PositiveInt = 300
    """Seconds without a batch after which a data loader worker counts as hung."""
    augment: AugmentSection = AugmentSection()
    sampling: Literal["uniform", "class_balanced", "repeat_factor"] = "uniform"
    """How often an epoch draws each training image. `uniform`: once. `repeat_factor`: images with rare classes more
    than once, by LVIS' formula. `class_balanced`: each class as often, so that images of frequent classes come less
    than once. The draws depend on seed and epoch alone."""
    repeat_threshold: Annotated[float, Field(gt=0, le=1)] = 0.001
    """For `repeat_factor`: a class that a smaller fraction f of the images has is drawn sqrt(threshold / f) times."""
    background_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of each batch that is images without objects. `null`: as many as there are."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.val_part is not None:
            check_part(self.val_fraction, self.val_part)
        return self


class TrainSection(Section):
    """Optimisation. The defaults are upstream's recipe at the batch size of the published runs."""

    epochs: PositiveInt = 100
    """Passes over the training images."""
    batch_size: PositiveInt = 16
    """Global batch size of one optimizer step (gradient accumulation and ranks included)."""
    last_batch: Literal["keep", "drop", "fill"] = "fill"
    """How the last, incomplete batch of an epoch is handled. `fill` completes it with images of earlier batches, drawn
    by seed and epoch and augmented again, as upstream does: every batch is full, no image is dropped, and a split
    smaller than a batch can be trained on. `drop` drops the remaining images, others in each epoch, as DETR does.
    `keep` takes a step on the incomplete batch: one image may then weigh as much as a full batch. A run that was
    started without this key resumes with `keep`."""
    micro_batch: PositiveInt | Literal["auto"] | None = None
    """Images of one forward pass on one rank. `null`: the per-rank batch. `auto`: as many as fit into the GPU's memory,
    also in evaluation. The optimizer step does not depend on it, except for dropout, which is drawn per pass."""
    lr: PositiveFloat = 1e-4
    """Learning rate (AdamW) of all parameters outside the encoder."""
    lr_encoder: PositiveFloat = 1.5e-4
    """Learning rate of the encoder, before layer and component decay."""
    encoder_layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Layer-wise learning-rate decay: the factor from one encoder layer to the layer below."""
    component_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor on the decoder's learning rate. Its square is the factor on the encoder's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs of linear learning-rate warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning-rate schedule after the warm-up."""
    lr_final_factor: Probability = 0.0
    """Final learning rate of the cosine schedule, as a fraction of the learning rate."""
    clip: NonNegativeFloat = 0.1
    """Max gradient norm. 0 disables clipping."""
    ema: bool = True
    """Keep an exponential moving average (EMA) of the weights and evaluate it; see also `evaluation.raw_every`."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.993
    """Final decay of the EMA."""
    ema_tau: NonNegativeFloat = 100.0
    """Optimizer steps over which the decay rises to `ema_decay`. 0: no ramp."""
    multi_scale: bool = True
    """Draw the resolution of each optimizer step from a range around `model.resolution`."""
    seed: NonNegativeInt = 0
    """Seed of all random generators."""
    early_stop: PositiveInt | None = None
    """Patience of early stopping: evaluations without a better AP. `null` disables it."""
    log_every: PositiveInt = 10
    """Optimizer steps between two log records of the loss."""
    class_weights: dict[str, PositiveFloat] | Literal["balanced"] | None = None
    """Weights of classes in the classification loss: factors by class name, such as `{crack: 3}`, others 1. `balanced`:
    the mean number of objects per class over the class's own number."""
    max_hours: PositiveFloat | None = None
    """Save and stop after this many hours, with exit status 124. `--resume` resumes. Leave time for one save."""
    deterministic: bool = False
    """Use deterministic GPU kernels where they exist, which are slower; `rfdetr-hwd doctor` lists where none exists."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.micro_batch, int) and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch_size {self.batch_size}")
        return self


class EvaluationSection(Section):
    """Evaluation with COCO metrics. AP is COCO's, at 100 detections per image."""

    every: PositiveInt = 1
    """Epochs between two evaluations. The last epoch is always evaluated."""
    raw_every: PositiveInt | None = None
    """Every how many evaluations the raw weights are evaluated beside the EMA. `null`: only at the last epoch, where
    both always are. Without `train.ema` every evaluation is of the raw weights. An older run resumes with 1."""
    batch_size: PositiveInt = 16
    """Images of one forward pass."""
    max_dets: Annotated[int, Field(gt=100)] | None = 500
    """Also report AP at this many detections per class and image, under its own name. `null` disables it. The model
    returns `model.num_select` detections over all classes."""
    backend: Literal["hotcoco", "pycocotools"] = "hotcoco"
    """COCO evaluation library: the fast one, or the reference implementation. Their metrics are equal."""

    @field_validator("backend", mode="before")
    @classmethod
    def _replace_former(cls, value: Any) -> Any:
        """Accept `faster` of earlier runs: its library was replaced by one with the same metrics."""
        return "hotcoco" if value == "faster" else value


class OutputSection(Section):
    """The run directory, its checkpoints and the trackers."""

    dir: str
    """Run directory. It must be new. `--resume` resumes an existing run."""
    save_every: PositiveInt = 1
    """Epochs between two checkpoints. An epoch that is evaluated is always saved, before the evaluation."""
    save_every_steps: PositiveInt | None = None
    """Optimizer steps between two checkpoints within an epoch. `null` disables them."""
    keep_last: PositiveInt = 2
    """Newest checkpoints to keep, in addition to the best one."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    """Experiment trackers beside metrics.jsonl and the console. By default they write into the run directory alone."""
    report: bool = True
    """At the end, write the detections of the last evaluation and its report to `evaluation` in the run directory."""


class Config(Section):
    """The configuration of a run."""

    model: ModelSection = ModelSection()
    downsample: DownsampleSection = DownsampleSection()
    data: DataSection
    train: TrainSection = TrainSection()
    amp: bool = True
    """Mixed precision (bfloat16) in every forward pass on a CUDA device. TF32 is off: float32 is IEEE float32."""
    evaluation: EvaluationSection = EvaluationSection()
    output: OutputSection

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = RESOLUTION_STEP[self.model.variant] * (2 if self.downsample.site == "stem" else 1)
        side = self.model.resolution
        if side is not None and side % step:
            nearest = max(step, round(side / step) * step)
            raise ValueError(f"model.resolution {side} is not a multiple of {step}; the nearest is {nearest}")
        augment, epochs = self.data.augment, self.train.epochs
        if augment.is_mixing and not augment.mixed_epochs(epochs):
            raise ValueError(
                f"data.augment.unmixed_epochs {augment.unmixed_epochs} leaves no epoch of {epochs} (train.epochs) with "
                "mosaic or mixup: lower it, or set data.augment.mosaic and data.augment.mixup to 0"
            )
        return self

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
