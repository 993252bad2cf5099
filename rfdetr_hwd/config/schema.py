"""The configuration of a run: what can be set, in frozen sections. One file describes one experiment.

This module imports neither torch nor rfdetr, so a wrong configuration is answered at once.
"""

from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Variant = Literal["nano", "small", "medium", "base", "large"]
Level = Literal["P3", "P4", "P5"]
Probability = Annotated[float, Field(ge=0, le=1)]

RESOLUTION_STEP: dict[str, int] = {"nano": 32, "small": 32, "medium": 32, "base": 56, "large": 32}
"""Pixels that the input side must be a multiple of: patch size times windows per side; twice that at the stem."""


class Section(BaseModel):
    """A part of the configuration: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class ModelSection(Section):
    """Which RF-DETR is built. `null` leaves a value at the variant's own."""

    variant: Variant = "nano"
    """The RF-DETR variant whose architecture is built."""
    levels: tuple[Level, ...] = ("P4", "P5")
    """Feature levels of the projector, in ascending order. The stride-2 convolution is in P5 alone."""
    resolution: PositiveInt | None = None
    """Side of the square input in pixels, a multiple of 32 (base: 56); at the stem, of twice that."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image is fitted into the square: `stretch` as upstream, `letterbox` keeps its aspect ratio."""
    pretrain_weights: str | None = "auto"
    """`auto`: the variant's published COCO weights; a path: a run, a checkpoint or a .pth; `null`: a random start."""
    strict_weights: bool = True
    """Refuse pretrained weights with keys or shapes that no mapping explains. `false` starts those parts fresh."""
    num_queries: PositiveInt | None = None
    """Object queries, the most objects found in one image."""
    num_select: PositiveInt | None = None
    """Detections of one image: its best pairs of query and class. `null`: as many as there are queries."""
    group_detr: PositiveInt | None = None
    """Query groups trained side by side (Group DETR); evaluation uses the first."""
    freeze_encoder: bool = False
    """Keep the DINOv2 encoder's weights as they are."""
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
    """What stands in for the stride-2 convolution."""

    name: str = "hwd"
    """A name of `rfdetr-hwd downsample list` (conv3x3 is stock RF-DETR), or a class as package.module:Class."""
    site: Literal["projector", "stem"] = "projector"
    """Where it goes: the P5 branch of the projector, or before the patch embedding, at twice the resolution."""
    backend: Literal["fused", "pytorch_wavelets"] = "fused"
    """How hwd and dwt compute: one convolution with the folded kernel, or the reference library. Same parameters."""
    init: Literal["default", "equal"] = "default"
    """`equal` starts hwd, spd and conv2x2 from the same folded kernels, for a comparison."""
    options: dict[str, str | int | float | bool] = {}
    """Options of the downsampler, such as `wavelet` of dwt."""


class AugmentSection(Section):
    """Random changes to training images. What happens to an image depends on seed, epoch and image id alone."""

    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    crop: Probability = 0.5
    """Probability of a random crop, which is then resized to the input size."""
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest side of the crop, as a share of the image's side."""


class SplitSection(Section):
    """A split whose annotations and images are named apart, absolute or from `data.root`."""

    annotations: str
    """The annotation file (COCO)."""
    images: str | None = None
    """The directory of the images; `null`: wherever they are found."""


def _check_split(value: object) -> object:
    """Answer what is no split with the two forms of one, not with what each of them lacks."""
    is_known = value is None or isinstance(value, str | SplitSection)
    if isinstance(value, dict):
        is_known = isinstance(value.get("annotations"), str) and isinstance(value.get("images", ""), str | None)
        is_known = is_known and value.keys() <= SplitSection.model_fields.keys()
    if is_known:
        return value
    raise ValueError(f"must be NAME or {{annotations: FILE, images: DIRECTORY}}, not {value!r}")


SplitName = Annotated[str | SplitSection | None, BeforeValidator(_check_split)]


class DataSection(Section):
    """Where the images are."""

    root: str
    """Directory of the dataset."""
    format: Literal["auto", "coco", "roboflow", "yolo", "webdataset", "voc"] = "auto"
    """Format of the dataset; `auto` recognises it."""
    train: SplitName = None
    """The training split: its name, its annotation file, or `{annotations: FILE, images: DIRECTORY}`; `null`: the one
    that is called train, training, train2017 or the like."""
    val: SplitName = None
    """The validation split, likewise; `null`: the one that is called val, valid, validation, val2017 or the like."""
    test: SplitName = None
    """The test split, likewise; `null`: the one that is called test, test2017 or the like."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the training images that is held out for validation, for a dataset without a validation split:
    stratified by class, with images that look alike on one side. A new run then decodes every image once before it
    starts. `null`: the dataset has a validation split."""
    val_seed: NonNegativeInt = 0
    """Seed of the choice of the images that are held out; the same for runs whose `train.seed` differs."""
    allow: tuple[str, ...] = ()
    """Kinds of error in the annotations to accept, as `rfdetr-hwd data check` names them."""
    bit_depth: Literal["auto", 8, 10, 12, 14, 16] = "auto"
    """Bits that the values of images with 16 bits a channel use; larger values are clipped. Cameras write 10, 12 or 14
    into files of 16, which are almost black when they are read as 16. `auto`: the fewest of these numbers that hold
    every value of the training images that are decoded before the first epoch (all, or 1,000 drawn by `train.seed`),
    16 if none of them is such an image. The run records the number, and whatever reads images for its model uses it."""
    exif: Literal["auto", "apply", "ignore"] = "auto"
    """Whether images are turned upright as their EXIF orientation says. `auto`: all but those that are annotated with
    their stored width and height, where these are not the upright ones; they are read as stored. `apply`: all, and
    annotations are taken as those of the upright images. `ignore`: none, and annotations are taken as those of the
    stored images. An image without annotations is turned upright unless it is `ignore`."""
    on_bad_image: Literal["quarantine", "fail"] = "quarantine"
    """Replace images that cannot be read and list them in quarantine.jsonl, or stop at the first."""
    workers: NonNegativeInt = 2
    """Loader processes a rank; 0 loads in the main process. The images do not depend on it."""
    worker_timeout: PositiveInt = 300
    """Seconds without a batch after which a loader process counts as hanging."""
    augment: AugmentSection = AugmentSection()


class TrainSection(Section):
    """The optimisation. Defaults are upstream's recipe, at the batch size of the published runs."""

    epochs: PositiveInt = 100
    """Passes over the training images."""
    batch_size: PositiveInt = 16
    """Images of one optimiser update, over all ranks and micro-batches."""
    last_batch: Literal["keep", "drop", "fill"] = "fill"
    """What becomes of the images that are left when an epoch is cut into batches. `fill` completes their batch with
    images of earlier batches, drawn by seed and epoch and augmented again, as upstream does: every step is of a whole
    batch, no image is left out, and a split smaller than a batch can be trained on. `drop` leaves them out, others in
    each epoch, as DETR does. `keep` makes a full step of however few they are: one image then counts as much as a
    batch. A run that was started before there was this key continues with `keep`."""
    micro_batch: PositiveInt | Literal["auto"] | None = None
    """Images of one forward pass on one rank; `null`: the rank's whole share; `auto`: as many as fit into the GPU's
    memory, for the evaluation too. The update does not depend on it, but for dropout, which is drawn pass by pass."""
    lr: PositiveFloat = 1e-4
    """Learning rate (AdamW) of everything but the encoder."""
    lr_encoder: PositiveFloat = 1.5e-4
    """Learning rate of the encoder, before layer and component decay."""
    encoder_layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Factor on the learning rate from one encoder layer to the one below."""
    component_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor on the decoder's learning rate; squared, on the encoder's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Decoupled weight decay."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs of linear warm-up."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up."""
    lr_final_factor: Probability = 0.0
    """Where the cosine ends, as a share of the learning rate."""
    clip: NonNegativeFloat = 0.1
    """Largest gradient norm; 0 does not clip."""
    ema: bool = True
    """Keep an exponential moving average of the weights, and evaluate it beside the plain weights."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.993
    """Decay of the average in the long run."""
    ema_tau: NonNegativeFloat = 100.0
    """Updates over which the decay rises to `ema_decay`; 0: at once."""
    multi_scale: bool = True
    """Draw the input side of each update from a range around the resolution."""
    seed: NonNegativeInt = 0
    """Seed of everything that is random."""
    early_stop: PositiveInt | None = None
    """Stop after this many evaluations without a better AP."""
    log_every: PositiveInt = 10
    """Updates between two records of the loss."""
    max_hours: PositiveFloat | None = None
    """Save and stop after so many hours, with exit status 124; `--resume` goes on. Leave time for one save."""
    deterministic: bool = False
    """On a GPU, use deterministic kernels where there are any: slower. `rfdetr-hwd doctor` lists where are none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.micro_batch, int) and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than batch_size {self.batch_size}")
        return self


class EvaluationSection(Section):
    """How the model is measured. AP is COCO's, at 100 detections an image."""

    every: PositiveInt = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    batch_size: PositiveInt = 16
    """Images of one forward pass."""
    max_dets: Annotated[int, Field(gt=100)] | None = 500
    """Also report AP at this many detections of a class in an image, under a name of its own; `null` does not. The
    model gives `model.num_select` of all classes."""
    backend: Literal["pycocotools", "faster"] = "pycocotools"
    """COCO evaluation library: the reference, or faster-coco-eval."""


class OutputSection(Section):
    """What a run leaves behind."""

    dir: str
    """Run folder. It must be new; `--resume` continues an existing one."""
    save_every: PositiveInt = 1
    """Epochs between two checkpoints; an epoch that is evaluated is always saved, before it is evaluated."""
    save_every_updates: PositiveInt | None = None
    """Updates between two checkpoints within an epoch; `null`: none."""
    keep_last: PositiveInt = 2
    """Checkpoints kept beside the best one."""
    trackers: tuple[Literal["tensorboard"], ...] = ()
    """Where the metrics go beside metrics.jsonl and the console."""


class Config(Section):
    """A whole experiment."""

    model: ModelSection = ModelSection()
    downsample: DownsampleSection = DownsampleSection()
    data: DataSection
    train: TrainSection = TrainSection()
    amp: bool = True
    """Mixed precision (bfloat16) in every forward pass, on a CUDA device. What is left in float32, and all of it with
    `false`, is IEEE float32: TF32 is off."""
    evaluation: EvaluationSection = EvaluationSection()
    output: OutputSection

    @model_validator(mode="after")
    def _check(self) -> Self:
        step = RESOLUTION_STEP[self.model.variant] * (2 if self.downsample.site == "stem" else 1)
        side = self.model.resolution
        if side is not None and side % step:
            nearest = max(step, round(side / step) * step)
            raise ValueError(f"model.resolution {side} is not a multiple of {step}; the nearest is {nearest}")
        return self

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
