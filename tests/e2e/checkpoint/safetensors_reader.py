"""A reader of safetensors files that shares nothing with muster: from https://github.com/huggingface/safetensors#format alone."""
import json
import math
import struct

CODES = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "U8": "B"}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}


def unique(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), "a name stands there twice"
    return dict(pairs)


def read(path):
    """Returns {name: (dtype, shape, [values])} and where the first tensor begins."""
    with open(path, "rb") as file:
        contents = file.read()
    (length,) = struct.unpack("<Q", contents[:8])
    assert length <= 100_000_000 and 8 + length <= len(contents), "the header is longer than the file"
    assert contents[8:9] == b"{", "the header does not begin with {"
    header = json.loads(contents[8:8 + length].decode("utf-8"), object_pairs_hook=unique)
    data = contents[8 + length:]
    tensors, end = {}, 0
    header.pop("__metadata__", None)
    for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = about["data_offsets"]
        count = math.prod(about["shape"])
        assert begin == end, f"a gap before {name}"
        assert stop - begin == count * SIZES[about["dtype"]], f"{name} has the wrong size"
        raw = data[begin:stop]
        if about["dtype"] == "BF16":  # the upper half of a float32
            raw = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
        tensors[name] = (about["dtype"], about["shape"], list(struct.unpack(f"<{count}{CODES.get(about['dtype'], 'f')}", raw)))
        end = stop
    assert end == len(data), "bytes behind the last tensor"
    return tensors, 8 + length
