import json
import os
import socket
import sys

import pytest

from configs import doctor
from configs.cli import main
from envs.graphics import find_backend


def test_doctor_prints_json_for_programs(capsys, tmp_path):
    status = main(["doctor", "--json", "--outputs", str(tmp_path)])
    report = json.loads(capsys.readouterr().out)
    levels = {finding["name"]: finding["level"] for finding in report["findings"]}
    assert {"python", "memory", "rendering", "CUDA", "port 8000", "outputs", "extra sb3"} <= set(levels)
    assert report["healthy"] == ("fail" not in levels.values()) == (status == 0)
    if find_backend():
        rendering = next(finding for finding in report["findings"] if finding["name"] == "rendering")
        assert rendering["level"] == "ok" and "frames/s" in rendering["found"]


@pytest.fixture
def fake_driver(monkeypatch, tmp_path):
    """Stands a script in for the interpreter that renders."""

    def install(body):
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(doctor.sys, "executable", str(script))

    return install


def test_a_driver_that_hangs_is_given_up(fake_driver):
    fake_driver("import time; time.sleep(60)")
    (finding,) = doctor.check_rendering(timeout_s=1.0)
    assert finding.level == "fail" and "hangs" in finding.found and "MUJOCO_GL=osmesa" in finding.mend


def test_a_driver_that_aborts_is_survived(fake_driver):
    fake_driver("import os; os.abort()")
    (finding,) = doctor.check_rendering(timeout_s=30.0)
    assert finding.level == "fail" and "exit status -6" in finding.found


def test_a_missing_gl_library_is_named(fake_driver, monkeypatch):
    fake_driver("raise SystemExit('cannot render: no OpenGL context')")
    monkeypatch.setattr(doctor, "find_backend", lambda: None)
    (finding,) = doctor.check_rendering(timeout_s=30.0)
    assert finding.level == "fail" and "no OpenGL context" in finding.found and "apt-get install" in finding.mend


def test_a_variable_that_cannot_be_obeyed_is_named_and_nothing_else_suggested(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    (finding,) = doctor.check_rendering(timeout_s=60.0)
    assert finding.level == "fail" and finding.found.startswith("MUJOCO_GL=nonsense: expected egl or osmesa")
    assert "apt-get" not in finding.found + finding.mend


def test_a_check_that_breaks_becomes_a_finding(monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("driver mismatch")

    monkeypatch.setattr(doctor, "check_cuda", broken)
    monkeypatch.setattr(doctor, "check_rendering", lambda timeout_s: [])
    failed = [finding for finding in doctor.diagnose(tmp_path) if finding.level == "fail" and finding.name == "CUDA"]
    assert [finding.found for finding in failed] == ["the check broke: RuntimeError: driver mismatch"]


def test_versions_are_compared_with_the_pins(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# tested\nnumpy==0.0.1\n")
    finding = next(f for f in doctor.check_versions(pins) if f.name == "numpy")
    assert (
        finding.level == "warn" and "tested with 0.0.1" in finding.found and finding.mend == "pip install numpy==0.0.1"
    )
    assert doctor.check_versions(tmp_path / "none.txt")[0].level == "ok"


def test_a_taken_port_is_a_warning():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (finding,) = doctor.check_port(taken.getsockname()[1])
    assert finding.level == "warn" and "--port" in finding.mend


def test_a_missing_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"lerobot": ("os", "no_such_module_here")})
    (finding,) = doctor.check_extras()
    assert finding.found == "without no_such_module_here" and "'.[lerobot]'" in finding.mend


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_fails(tmp_path):
    tmp_path.chmod(0o500)
    (finding,) = doctor.check_outputs(tmp_path)
    assert finding.level == "fail" and finding.mend


def test_a_folder_that_is_not_there_fails(tmp_path):
    (finding,) = doctor.check_outputs(tmp_path / "a" / "outputs")
    assert finding.level == "fail" and "cannot write" in finding.found
