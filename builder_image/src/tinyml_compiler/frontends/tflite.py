"""An int8 .tflite model as a graph, without TensorFlow.

`import_model` raises ModelInvalidError for a file that is no sound model, ModelNotQuantizedError
for a float one, and UnsupportedOperatorError with all that we do not compile in one message.
"""

from __future__ import annotations

from tinyml_compiler import ir
from tinyml_compiler.errors import (
    ModelInvalidError,
    ModelNotQuantizedError,
    UnsupportedOperatorError,
)
from tinyml_compiler.frontends import tflite_file, tflite_ops
from tinyml_compiler.frontends.tflite_file import FileModel, FileTensor

_DTYPES = {
    "INT8": ir.DType.INT8,
    "INT32": ir.DType.INT32,
    "INT64": ir.DType.INT64,
    "FLOAT32": ir.DType.FLOAT32,
}
_FLOAT_TYPES = ("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16")
_EDGES = ("QUANTIZE", "DEQUANTIZE")
_SHOWN_PROBLEMS = 20


def import_model(data: bytes, name: str) -> ir.Graph:
    """Return the model's graph, checked: `ir.problems` finds nothing in it."""
    model = tflite_file.read(data)
    _must_be_quantized(model)
    tensors, unread = _tensors(model)
    problems = [text for texts in unread.values() for text in texts]
    ops: list[ir.Op] = []
    for operator in model.operators:
        importer = tflite_ops.Importer(operator, tensors)
        if importer.is_known and not unread.keys().isdisjoint(
            (*operator.inputs, *operator.outputs)
        ):
            continue  # its tensors are reported already, and mean nothing to it
        op = importer.run()
        problems += [f"{operator.source}: {text}" for text in importer.problems]
        if op is not None:
            ops.append(op)
    problems += _edges(model)
    if problems:
        raise UnsupportedOperatorError(
            problems, f"supported operators: {tflite_ops.supported_operators()}"
        )
    graph = ir.Graph(
        name=name,
        tensors=tuple(tensors),
        ops=tuple(ops),
        inputs=model.inputs,
        outputs=model.outputs,
    )
    _must_be_sound(ir.problems(graph))
    return graph


def _must_be_sound(wrong: list[str]) -> None:
    if wrong:
        more = f" … and {len(wrong) - _SHOWN_PROBLEMS} more" if len(wrong) > _SHOWN_PROBLEMS else ""
        raise ModelInvalidError(
            "the model does not hold together: " + "; ".join(wrong[:_SHOWN_PROBLEMS]) + more
        )


def _must_be_quantized(model: FileModel) -> None:
    floats = [
        operator.source
        for operator in model.operators
        if operator.name not in _EDGES
        and any(
            model.tensors[index].type_name in _FLOAT_TYPES
            for index in (*operator.inputs, *operator.outputs)
            if index != -1
        )
    ]
    if floats:
        shown = ", ".join(floats[:5]) + (" …" if len(floats) > 5 else "")
        raise ModelNotQuantizedError(
            f"{len(floats)} of {len(model.operators)} operators work on float ({shown}); "
            "the devices run int8: quantize it (spec.quantization.mode: PostTraining, "
            "with the Keras model as source and calibration data)"
        )


def _tensors(model: FileModel) -> tuple[list[ir.Tensor], dict[int, list[str]]]:
    """Return all tensors, and what is not supported of those in use, by index.

    Raises ModelInvalidError for those of a supported kind that are not sound.
    """
    used = {*model.inputs, *model.outputs}
    for operator in model.operators:
        used |= {*operator.inputs, *operator.outputs}
    tensors: list[ir.Tensor] = []
    problems: dict[int, list[str]] = {}
    wrong: list[str] = []
    for tensor in model.tensors:
        tensors.append(_tensor(tensor))
        if tensor.index not in used:
            continue
        unread = _unread(tensor)
        if unread:
            where = f"tensor {tensor.index} {tensor.name!r}"
            problems[tensor.index] = [f"{where} {text}" for text in unread]
        else:
            wrong += ir.tensor_problems(tensor.index, tensors[-1])
    _must_be_sound(wrong)
    return tensors, problems


def _unread(tensor: FileTensor) -> list[str]:
    found = []
    if tensor.type_name not in _DTYPES:
        found.append(f"is {tensor.type_name}, supported are {', '.join(_DTYPES)}")
    if tensor.is_sparse:
        found.append("is sparse, supported are dense tensors")
    if tensor.is_variable:
        found.append("is a variable that lives from run to run, supported are models without")
    return found


def _tensor(tensor: FileTensor) -> ir.Tensor:
    quantization = None
    if tensor.scales:
        per_tensor = len(tensor.scales) == 1
        quantization = ir.Quantization(
            scales=tensor.scales,
            zero_points=tensor.zero_points,
            axis=None if per_tensor else tensor.quantized_dimension,
        )
    return ir.Tensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype=_DTYPES.get(tensor.type_name, ir.DType.INT8),
        quantization=quantization,
        data=tensor.data,
    )


def _edges(model: FileModel) -> list[str]:
    """Return what is not supported of the model's inputs and outputs."""
    found = []
    if not 1 <= len(model.outputs) <= 255 or not 1 <= len(model.inputs) <= 255:
        found.append(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs, "
            "supported are 1 to 255 of each"
        )
    for index in (*model.inputs, *model.outputs):
        tensor = model.tensors[index]
        if tensor.type_name not in ("INT8", "FLOAT32"):
            found.append(
                f"tensor {index} {tensor.name!r} at the edge of the model is {tensor.type_name}, "
                "supported are INT8 and FLOAT32"
            )
    for index in model.inputs:
        tensor = model.tensors[index]
        if -1 in tensor.shape_signature[1:]:
            found.append(
                f"input {index} {tensor.name!r} has shape {list(tensor.shape_signature)}: "
                "only the first side may be unknown (-1), and is then 1"
            )
    for index in model.outputs:
        if model.tensors[index].data is not None:
            found.append(f"output {index} {model.tensors[index].name!r} is a constant")
    return found
