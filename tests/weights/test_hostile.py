"""Torch files made to harm: pickles that want to run something or want memory, tensors that point elsewhere."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_depth2img.errors import TensorFileError
from lib_depth2img.weights import inert_pickle
from lib_depth2img.weights.inert_pickle import read_pickle
from lib_depth2img.weights.tensor_file import open_tensor_file


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function = function
        self.arguments = arguments

    def __reduce__(self):
        return self.function, self.arguments


class HasState:
    """Pickles as an object whose state is set: NEWOBJ and BUILD."""

    def __init__(self):
        self.x = 1


def zip_with(pickled: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    return path


def legacy_with(pickled: bytes, path: Path) -> Path:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in head) + pickled + pickle.dumps([], 2))
    return path


def hostile(witness: Path) -> dict[str, bytes]:
    """Pickles that create `witness` when they are loaded by an ordinary unpickler, or could."""
    touch = f"touch {witness}"
    command = touch.encode()
    return {
        "reduce os.system": pickle.dumps({"state_dict": Calls(os.system, touch)}, 2),
        "reduce os.system, protocol 4": pickle.dumps(Calls(os.system, touch), 4),
        "reduce eval": pickle.dumps([Calls(eval, f"open({str(witness)!r}, 'w')")], 2),
        "reduce getattr": b"\x80\x02cbuiltins\ngetattr\ncos\npath\nU\x06system\x86R.",
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\nU" + bytes([len(command)]) + command + b"\x85\x81.",
        "newobj_ex": b"\x80\x04cos\nsystem\n)}\x92.",
        "state": pickle.dumps({"a": HasState()}, 2),
        "state of a global": b"\x80\x02cos\nsystem\n}b.",
        "persistent text id": b"Pstorage\n.",
        "extension": b"\x82\x01.",
        "torch.load": pickle.dumps(Calls(torch.load, "x"), 2),
        "rebuild of a call": pickle.dumps(
            Calls(torch._utils._rebuild_parameter, Calls(os.system, touch), False, None), 2
        ),
        "encode by a codec": b"\x80\x02c_codecs\nencode\nU\x01aU\x03bz2\x86R.",
        "numpy reconstruct": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.",
        "module": pickle.dumps(torch.nn.Linear(2, 2), 2),
    }


@pytest.mark.parametrize("name", sorted(hostile(Path("x"))))
@pytest.mark.parametrize("container", [zip_with, legacy_with])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, name, container):
    witness = tmp_path / "witness"
    path = container(hostile(witness)[name], tmp_path / "model.ckpt")
    with pytest.raises(TensorFileError):
        open_tensor_file(path)
    assert not witness.exists()


def test_the_ordinary_unpickler_would_have_run_it(tmp_path):
    """Otherwise the test above proves nothing."""
    witness = tmp_path / "witness"
    pickle.loads(hostile(witness)["reduce os.system"])
    assert witness.exists()


def test_the_refusal_names_what_would_be_called(tmp_path):
    path = zip_with(hostile(tmp_path / "w")["reduce os.system"], tmp_path / "model.ckpt")
    with pytest.raises(TensorFileError, match=r"model\.ckpt.*calls (posix|nt|os)\.system"):
        open_tensor_file(path)


def test_a_class_that_is_only_named_is_kept_as_a_name(tmp_path):
    pickled = pickle.dumps({"callbacks": {os.system: 1}, "what": os.system}, 2)
    with open_tensor_file(zip_with(pickled, tmp_path / "model.ckpt")) as file:
        assert str(file.extra["what"]).endswith(".system")
        assert not callable(file.extra["what"])


@pytest.mark.parametrize(
    "pickled",
    [
        pytest.param(b"\x80\x02" + b"]q\x00h\x00a.", id="a list that holds itself"),
        pytest.param(b"\x80\x02" + b"(" * 10 + b"]" + b"]a" * 5 + b"h\x05.", id="nonsense"),
        pytest.param(b"\x80\x02)" + b"\x85" * 200_000 + b".", id="tuples 200,000 deep"),
        pytest.param(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", id="such a tuple as a key"),
        pytest.param(
            b"\x80\x02]q\x00"
            + b"".join(b"]q" + bytes([i + 1]) + (b"h" + bytes([i]) + b"a") * 9 for i in range(30))
            + b".",
            id="lists of lists of lists",
        ),
        pytest.param(b"\x80\x02X\xff\xff\xff\xff.", id="a text of 4 GB"),
        pytest.param(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.", id="a text of 2**63 bytes"),
        pytest.param(b"\x80\x04\x95" + b"\xff" * 8 + b".", id="a frame of 2**64 bytes"),
        pytest.param(b"\x80\x02Nr\xff\xff\xff\x7f0j\xff\xff\xff\x7e.", id="a memo that was never filled"),
        pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f.", id="a number of 2 GB"),
        pytest.param(b"\x80\x02.", id="nothing"),
        pytest.param(b"\x80\x02N", id="no end"),
        pytest.param(b"\x80\x02(K\x01K\x02K\x03d.", id="an odd dictionary"),
    ],
)
@pytest.mark.parametrize("container", [zip_with, legacy_with])
def test_pickles_that_want_the_machine_are_refused(tmp_path, pickled, container):
    path = container(pickled, tmp_path / "model.ckpt")
    with pytest.raises(TensorFileError):
        open_tensor_file(path)


def text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def whole_number(nbytes: int) -> bytes:
    return b"\x8b" + struct.pack("<i", nbytes) + b"\x01" * nbytes


DOUBLED = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) + b"0" for i in range(40))
TWICE_TO_THE_40 = b")q\x000" + DOUBLED + b"h\x28"
MANY_PAIRS = b"](" + b"".join(b"J" + struct.pack("<i", index) + b"K\x01\x86" for index in range(20_000)) + b"e"


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        pytest.param(
            b"}" + text(b"a" * 1_000_000) + b"](" + b"K\x01" * 2_000 + b"es.", "endless names", id="long name"
        ),
        pytest.param(b"}" + whole_number(4_000) + b"K\x01s.", "uses a int as a key", id="key of 10,000 digits"),
        pytest.param(b"}" + whole_number(4_000) + b"\x85K\x01s.", "uses a tuple", id="key with 10,000 digits"),
        pytest.param(b"}(" + b"K\x01" * 100_000 + b"tK\x01s.", "uses a tuple as a key", id="key of 100,000 numbers"),
        pytest.param(
            b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + TWICE_TO_THE_40 + text(b"cpu") + b"K\x06tQ.",
            "names a storage by a tuple",
            id="storage named by 2**40 tuples",
        ),
        pytest.param(b"ctorch\nSize\n" + TWICE_TO_THE_40 + b"\x85R.", "nested too deep", id="shape of 2**40 tuples"),
        pytest.param(
            b"c_codecs\nencode\nq\x00" + text(b"a" * 1_000_000) + b"\x85q\x01](" + b"h\x00h\x01R" * 300 + b"e.",
            "unfolds",
            id="a text encoded 300 times",
        ),
        pytest.param(
            b"ccollections\nOrderedDict\nq\x00" + MANY_PAIRS + b"\x85q\x01](" + b"h\x00h\x01R" * 300 + b"e.",
            "unfolds",
            id="a dictionary made 300 times",
        ),
    ],
)
def test_pickles_that_are_small_and_unfold_are_refused(tmp_path, pickled, reason):
    with pytest.raises(TensorFileError, match=reason):
        open_tensor_file(zip_with(b"\x80\x02" + pickled, tmp_path / "model.ckpt"))


def test_a_list_full_of_itself_takes_no_memory(tmp_path):
    path = zip_with(b"\x80\x02]q\x00(" + b"h\x00" * 100_000 + b"e.", tmp_path / "model.ckpt")
    tracemalloc.start()
    try:
        with pytest.raises(TensorFileError, match="nested too deep"):
            open_tensor_file(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_storages_of_the_old_format_are_named_by_texts(tmp_path):
    """Turned into a text, the name below would take a terabyte."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}]
    keys = b"\x80\x02](" + TWICE_TO_THE_40 + b"e."
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in head) + keys)
    with pytest.raises(TensorFileError, match="names a storage by a tuple"):
        open_tensor_file(path)


def test_a_pickle_of_endless_operations_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inert_pickle, "MAX_OPERATIONS", 10_000)
    zip_with(b"\x80\x02]" + b"]a" * 4_000 + b".", tmp_path / "model.ckpt")
    open_tensor_file(tmp_path / "model.ckpt").close()
    zip_with(b"\x80\x02]" + b"]a" * 6_000 + b".", tmp_path / "model.ckpt")
    with pytest.raises(TensorFileError, match="more than 10,000 operations"):
        open_tensor_file(tmp_path / "model.ckpt")


def test_a_large_memo_index_costs_nothing(tmp_path):
    tracemalloc.start()
    try:
        open_tensor_file(zip_with(b"\x80\x02}r\xff\xff\xff\x7f.", tmp_path / "model.ckpt")).close()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def tensor_pickle(first=0, shape=(2, 3), strides=(3, 1), elements=6, key="0", storage=torch.FloatStorage) -> bytes:
    arguments = ("the storage", first, shape, strides, False, OrderedDict())
    return pickled_call(torch._utils._rebuild_tensor_v2, arguments, elements=elements, key=key, storage=storage)


def pickled_call(function, arguments, *, elements=6, key="0", storage=torch.FloatStorage) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", storage, key, "cpu", elements) if thing == "the storage" else None

    written = io.BytesIO()
    Pickler(written, 2).dump({"a": Calls(function, *arguments)})
    return written.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 1},
        {"first": -1},
        {"shape": (2, 4)},
        {"shape": (2, -3)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},
        {"shape": (1000,), "strides": (0,)},
        {"shape": (2**62,) * 60, "strides": (0,) * 60},
        {"shape": (2**64,), "strides": (0,)},
        {"strides": (-3, 1)},
        {"strides": (3, 2)},
        {"strides": (2**62, 1)},
        {"strides": (1,)},
        {"shape": "ab", "strides": "ab"},
        {"shape": (True, 3)},
        {"shape": (0, 2**40, 2**40), "strides": (1, 1, 1)},
        {"key": "1"},
        {"key": "../../data.pkl"},
        {"storage": torch.nn.Linear},
        {"storage": torch.DoubleStorage},
    ],
)
def test_tensors_that_point_outside_their_storage_are_refused(tmp_path, changes):
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(**changes))
        archive.writestr("archive/data/0", bytes(24))
    with pytest.raises(TensorFileError):
        open_tensor_file(path)


def test_the_same_tensor_without_tricks_is_read(tmp_path):
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", torch.arange(6.0).numpy().tobytes())
    with open_tensor_file(path) as file:
        assert file.read("a").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_tensor_without_stride_and_dtype_tricks_of_the_oldest_torch(tmp_path):
    """`_rebuild_tensor` takes four arguments; a fifth is not the dtype of anything."""
    path = tmp_path / "model.ckpt"
    arguments = ("the storage", 0, (2, 3), (3, 1), ["float64"])
    write_zip(path, {"a/data.pkl": pickled_call(torch._utils._rebuild_tensor, arguments), "a/data/0": b"\0\0\x80?" * 6})
    with open_tensor_file(path) as file:
        assert file.read("a").tolist() == [[1, 1, 1], [1, 1, 1]]


def write_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("entries", "compression", "reason"),
    [
        ({"archive/data.pkl": b"\x80\x02}.", "archive/x": bytes(10_000)}, zipfile.ZIP_DEFLATED, "compressed"),
        ({"archive/data.pkl": b"\x80\x02}.", "other/data.pkl": b"\x80\x02}."}, zipfile.ZIP_STORED, "2 data.pkl"),
        ({"archive/nothing": b""}, zipfile.ZIP_STORED, "0 data.pkl"),
        ({"archive/data.pkl": b"\x80\x02}.", "archive/byteorder": b"big"}, zipfile.ZIP_STORED, "big-endian"),
        ({"archive/data.pkl": b"\x80\x02}." + bytes(40_000_000)}, zipfile.ZIP_STORED, "a sound one needs less"),
    ],
)
def test_zips_that_torch_does_not_write_are_refused(tmp_path, entries, compression, reason):
    path = write_zip(tmp_path / "model.ckpt", entries, compression)
    with pytest.raises(TensorFileError, match=reason):
        open_tensor_file(path)


def test_a_directory_that_points_elsewhere_is_noticed_when_reading(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(4)}, path)
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"/data/0"))  # of the directory, which comes last
    raw[entry + 42 : entry + 46] = struct.pack("<I", 3)
    path.write_bytes(raw)
    try:
        with open_tensor_file(path) as file:
            file.read("a")
    except TensorFileError:
        return
    pytest.fail("bytes from elsewhere were taken for the tensor")


def valid_pickle() -> bytes:
    written = io.BytesIO()
    torch.save({"state_dict": OrderedDict(a=torch.ones(2), b=torch.nn.Parameter(torch.ones(3))), "epoch": 1}, written)
    with zipfile.ZipFile(written) as archive:
        return archive.read("archive/data.pkl")


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(valid_pickle()) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_pickle_is_read_or_refused_but_nothing_else(changes):
    raw = bytearray(valid_pickle())
    for position, value in changes:
        raw[position] = value
    with suppress(TensorFileError):
        read_pickle(io.BytesIO(bytes(raw)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle(raw):
    with suppress(TensorFileError):
        read_pickle(io.BytesIO(raw))
