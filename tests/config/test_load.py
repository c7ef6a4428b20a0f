"""Names of configs, ``extends``, layers of files and overrides."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dqn_cli.config import LoadedConfig, find_config, list_presets, load_config, read_mapping
from dqn_cli.core.errors import UsageError
from tests.config.example import Adam, Atari, Example, Gymnasium, Mlp, Rmsprop, Stop


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | bytes], Path]:
    """A working folder with presets; returns a function that writes a file there."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    write("configs/cartpole.yaml", "env: {id: CartPole-v1}\n")
    write(
        "configs/atari/nature.yaml",
        "env: {kind: atari, game: Pong}\nlearning: {optimizer: {kind: rmsprop}}\n",
    )
    return write


def load(name: str | Path, *overrides: str) -> LoadedConfig[Example]:
    return load_config(str(name), overrides, Example, Path("configs"))


def test_presets_are_listed_by_name(files, tmp_path):
    files("configs/README.md", "no config")
    assert list_presets(tmp_path / "configs") == ["atari/nature", "cartpole"]
    assert list_presets(tmp_path / "nowhere") == []


def test_a_config_is_named_by_preset_or_path(files, tmp_path):
    assert load("cartpole").name == "cartpole"
    assert load("atari/nature").name == "atari-nature"
    assert load("configs/atari/nature.yaml").name == "atari-nature"
    mine = files("else/where/mine.yml", "env: {id: Mine-v0}")
    loaded = load(mine)
    assert (loaded.name, loaded.source, loaded.options.env) == ("mine", mine, Gymnasium(id="Mine-v0"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cartpol", "there is no preset or file 'cartpol'. Did you mean 'cartpole'?"),
        ("nature", "Did you mean 'atari/nature'?"),
        ("zzz", "'dqn config list' shows all presets"),
        ("cartpole.yaml", "there is no file 'cartpole.yaml'. Did you mean 'cartpole'?"),
        ("work/myexperimnt.yaml", "Did you mean 'myexperiment.yaml'?"),
        ("nowhere/x.yaml", "there is no file 'nowhere/x.yaml'"),
        ("configs", "'configs' is a folder"),
        ("../configs/cartpole", "there is no preset or file"),
        ("a\0b.yaml", "there is no file 'a\\x00b.yaml'"),
        ("x" * 5000, "there is no preset or file"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(files, name, message):
    files("work/myexperiment.yaml", "")
    with pytest.raises(UsageError) as caught:
        load(name)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_extends_merges_several_levels_and_lists_replace(files):
    files("a.yaml", "seed: 1\nenv: {id: A, kwargs: {x: 1, y: 1}}\nnetwork: {torso: {hidden: [1, 2, 3]}}")
    files("sub/b.yaml", "extends: ../a.yaml\nseed: 2\nenv: {kwargs: {y: 2}}")
    files("sub/c.yaml", "extends: b.yaml\nnetwork: {torso: {hidden: [9]}}\n")
    options = load("sub/c.yaml").options
    assert options.seed == 2
    assert options.env == Gymnasium(id="A", kwargs={"x": 1, "y": 2})
    assert options.network.torso == Mlp(hidden=(9,))


def test_extends_is_relative_to_the_file_not_to_the_working_folder(files):
    files("base.yaml", "env: {id: Wrong}")
    files("sub/base.yaml", "env: {id: Right}")
    files("sub/child.yaml", "extends: base.yaml")
    assert load("sub/child.yaml").options.env == Gymnasium(id="Right")


def test_extends_names_a_preset(files):
    files("mine.yaml", "extends: atari/nature\nenv: {sticky: 0.0}")
    assert load("mine.yaml").options.env == Atari(game="Pong", sticky=0.0)


@pytest.mark.parametrize("extends", ["nothing.yaml", "cartpol", "[a]", "null", "''", "configs", "5"])
def test_an_extends_that_leads_nowhere_names_its_line(files, extends):
    files("mine.yaml", f"seed: 1\nextends: {extends}")
    with pytest.raises(UsageError, match=r"^mine\.yaml:2: extends: .*") as caught:
        load("mine.yaml")
    assert "\n" not in str(caught.value)


def test_a_circle_is_refused_with_its_chain(files):
    files("a.yaml", "extends: sub/b.yaml")
    files("sub/b.yaml", "extends: ../a.yaml")
    with pytest.raises(UsageError, match=r"circle: a\.yaml -> sub/b\.yaml -> sub/\.\./a\.yaml"):
        load("a.yaml")


def test_another_kind_replaces_the_section_and_the_same_kind_merges(files):
    files("base.yaml", "env: {id: A}\nlearning: {gamma: 0.5, optimizer: {kind: adam, lr: 0.1, eps: 0.2}}")
    files("other.yaml", "extends: base.yaml\nlearning: {optimizer: {kind: rmsprop, decay: 0.3}}")
    files("same.yaml", "extends: base.yaml\nlearning: {optimizer: {kind: adam, lr: 0.3}}")
    other = load("other.yaml").options.learning
    assert (other.gamma, other.optimizer) == (0.5, Rmsprop(decay=0.3))
    assert load("same.yaml").options.learning.optimizer == Adam(lr=0.3, eps=0.2)


def test_a_parent_without_kind_is_of_the_default_kind(files):
    files("atari.yaml", "extends: cartpole\nenv: {kind: atari, game: Pong}")
    files("gym.yaml", "extends: cartpole\nenv: {kind: gymnasium, num_envs: 2}")
    assert load("atari.yaml").options.env == Atari(game="Pong")
    assert load("gym.yaml").options.env == Gymnasium(id="CartPole-v1", num_envs=2)


def test_a_default_kind_inside_a_section_of_a_kind_is_known(files, tmp_path):
    files("base.yaml", "network: {torso: {hidden: [1]}}")
    files("mine.yaml", "extends: base.yaml\nnetwork: {torso: {kind: cnn}}")
    files("view.yaml", "view: {hidden: [1]}")
    files("other.yaml", "extends: view.yaml\nview: {kind: cnn}")
    assert read_mapping(tmp_path / "other.yaml", tmp_path, Example).mapping == {"view": {"kind": "cnn"}}
    with_schema = read_mapping(tmp_path / "mine.yaml", tmp_path / "configs", Example)
    assert with_schema.mapping == {"network": {"torso": {"kind": "cnn"}}}
    assert ("network", "torso", "hidden") not in with_schema.places


def test_overrides_lie_on_top_and_change_kinds_in_any_order(files):
    files("x.yaml", "env: {id: A}\nlearning: {optimizer: {lr: 0.1, eps: 0.2}}")
    for overrides in (["kind=rmsprop", "decay=0.3"], ["decay=0.3", "kind=rmsprop"]):
        optimizer = load("x.yaml", *(f"learning.optimizer.{one}" for one in overrides)).options.learning.optimizer
        assert optimizer == Rmsprop(decay=0.3)
    loaded = load("x.yaml", "learning.optimizer.lr=0.5", "stop.return_mean=475", "env.id=B")
    assert loaded.options.learning.optimizer == Adam(lr=0.5, eps=0.2)
    assert loaded.options.stop == Stop(return_mean=475)
    assert loaded.mapping == {
        "env": {"id": "B"},
        "learning": {"optimizer": {"lr": 0.5, "eps": 0.2}},
        "stop": {"return_mean": 475},
    }


def test_an_empty_file_is_an_empty_mapping(files):
    files("empty.yaml", "# nothing\n")
    assert load("empty.yaml", "env.id=A").options == Example(env=Gymnasium(id="A"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: [", "bad.yaml:2:5: "),
        ("- 1", "bad.yaml:1: a config is a mapping"),
        ("null", "bad.yaml:1: a config is a mapping"),
        (b"a: 1\nb: \xff", "bad.yaml:2: not UTF-8 text (byte 0xff)"),
        (b"a: 1\n" * 100_000, "larger than 256 KiB"),
        (b"\x00\x01", "bad.yaml:1:1: character #x0000 is not allowed"),
    ],
)
def test_unreadable_content_is_one_line(files, content, message):
    files("bad.yaml", content)
    with pytest.raises(UsageError) as caught:
        load("bad.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_key(files):
    files("bom.yaml", b"\xef\xbb\xbfenv: {id: A}")
    assert load("bom.yaml").options.env == Gymnasium(id="A")


def test_a_file_that_cannot_be_opened_is_one_line(files, tmp_path):
    with pytest.raises(UsageError, match="cannot read configs: Is a directory"):
        read_mapping(tmp_path / "configs", tmp_path / "configs")
    with pytest.raises(UsageError, match=r"cannot read gone\.yaml: No such file"):
        read_mapping(tmp_path / "gone.yaml", tmp_path / "configs")


def test_find_config_prefers_a_preset_to_a_folder_of_its_name(files, tmp_path):
    (tmp_path / "cartpole").mkdir()
    assert find_config("cartpole", tmp_path / "configs") == tmp_path / "configs" / "cartpole.yaml"
