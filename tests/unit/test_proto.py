"""The classes that the sink decodes with are those of proto/."""

from pathlib import Path

import grpc_tools
import pytest
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
CLASSES = ROOT / "gateway" / "sink" / "proto"
CONTRACTS = sorted(path.name for path in (ROOT / "proto").glob("*.proto"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("proto")
    shipped = Path(grpc_tools.__file__).parent / "_proto"
    folders = [f"-I{ROOT / 'proto'}", f"-I{shipped}", f"--python_out={out}", f"--pyi_out={out}"]
    assert protoc.main(["protoc", *folders, *CONTRACTS]) == 0, "what is wrong stands on stderr"
    return out


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("suffix", ["py", "pyi"])
def test_the_committed_classes_are_those_of_the_contracts(generated: Path, contract: str, suffix: str) -> None:
    name = f"{contract.removesuffix('.proto')}_pb2.{suffix}"
    assert (CLASSES / name).read_text() == (generated / name).read_text(), "proto/README.md says how to make them"


def test_no_class_is_left_of_a_contract_that_is_gone() -> None:
    stems = {path.name.removesuffix(".proto") for path in (ROOT / "proto").glob("*.proto")}
    assert {path.stem.removesuffix("_pb2") for path in CLASSES.glob("*_pb2.py")} == stems
