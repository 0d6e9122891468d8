"""What an ONNX file may refer to: plain files beside it."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.external_data_helper import set_external_data

from rarefy.pipeline.model.runtime.graph_file import check_graph
from rarefy.pipeline.terms.errors import IntegrityError


def outside(location, length=8, kind=np.float32):
    """A tensor in an external file."""
    tensor = onnx.numpy_helper.from_array(np.zeros(2, dtype=kind), "outside")
    set_external_data(tensor, location, offset=0, length=length)
    tensor.ClearField("raw_data")
    return tensor


def external(directory, location, length=8):
    """A graph with one tensor in an external file."""
    return saved(directory, helper.make_graph([], "g", [], [], [outside(location, length)]))


def saved(directory, graph):
    path = directory / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/b", "..", "c:\\x", "../../x"])
def test_external_data_outside_the_bundle_is_refused(location, tmp_path):
    with pytest.raises(IntegrityError, match="outside the bundle"):
        check_graph(external(tmp_path, location))


def hidden(place):
    """A graph with an external tensor where onnx's own list of tensors does not look."""
    ones = onnx.numpy_helper.from_array(np.ones(2, np.float32), "ones")
    at = onnx.numpy_helper.from_array(np.arange(2), "at")
    graph = helper.make_graph([], "g", [], [])
    if place == "sparse values":
        graph.sparse_initializer.append(helper.make_sparse_tensor(outside("../secret"), at, [4]))
    elif place == "sparse indices":
        far = outside("../secret", 16, np.int64)
        graph.sparse_initializer.append(helper.make_sparse_tensor(ones, far, [4]))
    else:
        sparse = helper.make_sparse_tensor(outside("../secret"), at, [4])
        graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    return graph


@pytest.mark.parametrize("place", ["sparse values", "sparse indices", "a sparse constant"])
def test_external_data_in_a_sparse_tensor_is_refused(place, tmp_path):
    with pytest.raises(IntegrityError, match="outside the bundle"):
        check_graph(saved(tmp_path, hidden(place)))


def test_external_data_is_a_whole_regular_file_beside_the_graph(tmp_path):
    path = external(tmp_path, "weights.bin")
    with pytest.raises(IntegrityError, match="but it is missing"):
        check_graph(path)
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    check_graph(path)
    (tmp_path / "weights.bin").write_bytes(bytes(7))
    with pytest.raises(IntegrityError, match="past the end"):
        check_graph(path)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "secret").write_bytes(bytes(8))
    (tmp_path / "weights.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(IntegrityError, match="regular file"):
        check_graph(path)
    (tmp_path / "weights.bin").unlink()
    os.link(tmp_path / "secret", tmp_path / "weights.bin")
    with pytest.raises(IntegrityError, match="a single hard link"):
        check_graph(path)


def linked(kind, target, link):
    """The place of a file that is a link, as in the cache of a hub or of DVC."""
    link.parent.mkdir()
    if kind == "symbolic":
        link.symlink_to(target)
    else:
        os.link(target, link)
    return link


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_to_a_graph_is_read_if_the_graph_names_no_files(tmp_path, kind):
    whole = saved(tmp_path, helper.make_graph([], "a location", [], []))
    check_graph(linked(kind, whole, tmp_path / "snapshot" / "model.onnx"))


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_to_a_graph_with_external_data_is_refused(tmp_path, kind):
    link = linked(kind, external(tmp_path, "weights.bin"), tmp_path / "snapshot" / "model.onnx")
    for directory in (tmp_path, tmp_path / "snapshot"):
        (directory / "weights.bin").write_bytes(bytes(8))
    with pytest.raises(IntegrityError, match="a single hard link; copy the files"):
        check_graph(link)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    for place in (tmp_path, tmp_path / "model.onnx"):
        with pytest.raises(IntegrityError, match="not a file"):
            check_graph(place)
