"""A backward pass without torch's engine, which asks the driver for a stream of every device that it meets."""

from collections import Counter, deque
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node

_LEAF = "AccumulateGrad"


def backward(loss: Tensor, gradient: Tensor | None = None) -> None:
    """Add the gradients of a tensor to its leaves, node by node; stands in for `torch.Tensor.backward`.

    As torch's engine does, it casts a gradient to the type of what it belongs to and sums what was broadcast.

    Raises:
        RuntimeError: A node gives a gradient on another device than its input is on.
    """
    root = loss.grad_fn
    waiting = _count_users(root)
    inbox: dict[Node, dict[int, Tensor]] = {
        root: {loss.output_nr: torch.ones_like(loss) if gradient is None else gradient}
    }
    ready = deque([root])
    with torch.no_grad():
        while ready:
            node = ready.popleft()
            for (user, index), grad in zip(node.next_functions, _run(node, inbox.pop(node, {})), strict=True):
                if user is None:
                    continue
                if grad is not None:
                    _add(inbox.setdefault(user, {}), index, _fitted(grad, node, user, index))
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)


def _count_users(root: Node) -> Counter[Node]:
    """Return how many gradients each node waits for."""
    waiting: Counter[Node] = Counter()
    seen, todo = {root}, [root]
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is None:
                continue
            waiting[node] += 1
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return waiting


def _run(node: Node, grads: dict[int, Tensor]) -> Sequence[Tensor | None]:
    if node.name().endswith(_LEAF):
        if grads:
            leaf = node.variable
            leaf.grad = grads[0].detach() if leaf.grad is None else leaf.grad + grads[0]
        return ()
    if not grads:
        return [None] * len(node.next_functions)
    arguments = [grads.get(index) for index in range(len(node._input_metadata))]
    is_custom = isinstance(node, torch.autograd.function.BackwardCFunction)
    outputs = node.apply(*arguments) if is_custom else node(*arguments)
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return outputs[: len(node.next_functions)]  # a function may return more, all of it `None`


def _fitted(grad: Tensor, node: Node, user: Node, index: int) -> Tensor:
    """Return a gradient in the type and shape of what it belongs to."""
    wanted = user.variable if user.name().endswith(_LEAF) else user._input_metadata[index]
    if grad.device != wanted.device:
        raise RuntimeError(f"{node.name()} gives a gradient on {grad.device}, {user.name()} has {wanted.device}")
    if grad.dtype != wanted.dtype:
        grad = grad.to(wanted.dtype)
    return grad if grad.shape == torch.Size(wanted.shape) else grad.sum_to_size(wanted.shape)


def _add(box: dict[int, Tensor], index: int, grad: Tensor) -> None:
    box[index] = box[index] + grad if index in box else grad
