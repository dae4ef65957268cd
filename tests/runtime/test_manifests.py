"""From types to manifests: each quirk of a CRD by a small model, and each refusal with the name of the field."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from vectorops.errors import Reasons
from vectorops.runtime import manifests, rbac
from vectorops.runtime.api import ApiModel, CommonSpec, CommonStatus, Rule, immutable
from vectorops.runtime.kind import Column, Family, Grant, Kind, Names
from vectorops.runtime.schema import NotAnApi, rules_of, structural


class Colour(StrEnum):
    """Which colour."""

    RED = "Red"
    BLUE = "Blue"


class Inner(ApiModel):
    """What is inside."""

    rules: ClassVar[tuple[Rule, ...]] = (Rule(rule="self.size > 0", message="size must be positive."),)

    size: int = Field(default=3, ge=1, lt=10, description="How large.")
    name: Annotated[str, Field(max_length=5)] = Field(description="Its name.")


class Loose(ApiModel):
    """All has defaults."""

    size: int = Field(default=3, description="How large.")


def field_of(annotation: Any, **kwargs: Any) -> dict[str, Any]:
    """The schema of the one field `value` of that type."""
    kwargs.setdefault("description", "A value.")
    model = type("Model", (ApiModel,), {"__annotations__": {"value": annotation}, "value": Field(**kwargs)})
    made: dict[str, Any] = structural(model, "Thing.spec")["properties"]["value"]
    return made


# -- what is made of a type -------------------------------------------------------------------------------------------


def test_an_integer_is_int64_with_inclusive_bounds() -> None:
    field = field_of(int, gt=0, lt=10)
    assert field == {"description": "A value.", "type": "integer", "format": "int64", "minimum": 1, "maximum": 9}


def test_an_optional_is_what_it_is_when_present() -> None:
    assert field_of(int | None, default=None) == {"description": "A value.", "type": "integer", "format": "int64"}


def test_an_optional_keeps_the_bounds_of_its_type() -> None:
    field = field_of(Annotated[str, Field(max_length=9, pattern="^a")] | None, default=None)
    assert field == {"description": "A value.", "type": "string", "pattern": "^a", "maxLength": 9}


def test_a_default_is_kept() -> None:
    assert field_of(bool, default=False)["default"] is False


def test_a_time_is_a_string_of_format_date_time() -> None:
    assert field_of(datetime) == {"description": "A value.", "type": "string", "format": "date-time"}


def test_an_enum_is_its_words_and_its_default_one_of_them() -> None:
    field = field_of(Colour, default=Colour.RED)
    assert field == {"description": "A value.", "type": "string", "enum": ["Red", "Blue"], "default": "Red"}


def test_a_single_word_is_an_enum_of_one() -> None:
    assert field_of(Literal["Only"])["enum"] == ["Only"]


def test_a_model_is_inlined_with_its_rules_and_the_description_of_the_field() -> None:
    field = field_of(Inner, description="The thing inside.")
    assert field["description"] == "The thing inside."
    assert field["required"] == ["name"]
    assert field["x-kubernetes-validations"] == [{"rule": "self.size > 0", "message": "size must be positive."}]
    assert field["properties"]["size"] == {
        "description": "How large.",
        "type": "integer",
        "format": "int64",
        "default": 3,
        "minimum": 1,
        "maximum": 9,
    }


def test_an_optional_model_is_inlined_too() -> None:
    assert field_of(Inner | None, default=None)["properties"]["name"]["maxLength"] == 5


def test_a_model_made_by_default_has_its_whole_default() -> None:
    """Not {}: the API server checks the rules inside a default against the default as it stands (tried)."""
    assert field_of(Loose, default_factory=Loose)["default"] == {"size": 3}
    assert "default" not in field_of(Loose | None, default=None)


def test_a_list_of_models_has_items_and_a_bound() -> None:
    field = field_of(Annotated[list[Inner], Field(max_length=7)], default_factory=list)
    assert field["maxItems"] == 7
    assert field["items"]["description"] == "What is inside."
    assert "default" not in field


def test_a_list_kept_by_keys_says_so() -> None:
    class Model(ApiModel):
        """A model."""

        map_lists: ClassVar[dict[str, tuple[str, ...]]] = {"innerThings": ("name",)}
        inner_things: Annotated[list[Inner], Field(max_length=7)] = Field(description="Things.")

    field = structural(Model, "Thing.spec")["properties"]["innerThings"]
    assert (field["x-kubernetes-list-type"], field["x-kubernetes-list-map-keys"]) == ("map", ["name"])


def test_a_set_is_a_list_of_type_set() -> None:
    field = field_of(Annotated[frozenset[Colour], Field(max_length=2)])
    assert field["x-kubernetes-list-type"] == "set"
    assert "uniqueItems" not in field


def test_a_map_of_strings_has_a_bound() -> None:
    field = field_of(dict[str, Annotated[str, Field(max_length=3)]], max_length=4)
    assert field["additionalProperties"] == {"type": "string", "maxLength": 3}
    assert field["maxProperties"] == 4


def test_a_number_or_a_word_is_the_one_union_that_a_crd_knows() -> None:
    field = field_of(Annotated[int, Field(ge=1)] | Literal["Auto"], default="Auto")
    assert field == {
        "description": "A value.",
        "default": "Auto",
        "pattern": "^(Auto)$",
        "maxLength": 4,
        "minimum": 1,
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
    }


def test_a_long_docstring_is_cut_to_its_first_paragraph_on_one_line() -> None:
    class Model(ApiModel):
        """The first
        paragraph.

        The second.
        """

        value: int = Field(description="A value.")

    assert structural(Model, "Thing.spec")["description"] == "The first paragraph."


def test_nothing_of_json_schema_is_left_that_a_crd_refuses() -> None:
    class Model(ApiModel):
        """A model."""

        a: Inner | None = Field(default=None, description="a")
        b: Annotated[list[Inner | None], Field(max_length=3)] = Field(default=[], description="b")
        c: Literal["One", "Two"] = Field(default="One", description="c")

    text = yaml.safe_dump(structural(Model, "Thing.spec"))
    for word in ("$ref", "$defs", "title", "const", "'null'", "exclusive", "allOf"):
        assert word not in text, word


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (str, "a string needs max_length, an enum or a format"),
        (str | None, "a string needs max_length"),
        (list[int], "a list needs max_length"),
        (float, "is a float; use an integer"),
        (dict[str, Annotated[str, Field(max_length=3)]], "a map needs max_length"),
        (Any, "has no type"),
        (dict[str, Any], "an object without fields"),
        (Annotated[str, Field(max_length=3)] | Inner, "a union is not structural"),
        (Literal["lower"], "the enum value 'lower' is not PascalCase"),
    ],
)
def test_what_makes_a_bad_api_is_refused_by_the_name_of_its_field(annotation: Any, message: str) -> None:
    with pytest.raises(NotAnApi, match=rf"^Thing\.spec\.value(\{{\}})?: ({message})"):
        field_of(annotation)


def test_a_field_that_says_nothing_of_itself_is_refused() -> None:
    with pytest.raises(NotAnApi, match=r"^Thing\.spec\.value: needs a description"):
        field_of(int, description=None)


def test_the_name_of_a_field_within_a_list_is_a_path() -> None:
    class Bad(ApiModel):
        """A model."""

        text: str = Field(description="A text.")

    with pytest.raises(NotAnApi, match=r"^Thing\.spec\.value\[\]\.text: a string"):
        field_of(Annotated[list[Bad], Field(max_length=2)])


def test_a_map_key_that_is_no_field_is_refused() -> None:
    class Model(ApiModel):
        """A model."""

        map_lists: ClassVar[dict[str, tuple[str, ...]]] = {"inner_things": ("name",)}
        inner_things: Annotated[list[Inner], Field(max_length=7)] = Field(description="Things.")

    with pytest.raises(NotAnApi, match="Model.map_lists names inner_things"):
        structural(Model, "Thing.spec")


# -- the whole object -------------------------------------------------------------------------------------------------


class ThingSpec(CommonSpec):
    """A thing you want."""

    rules: ClassVar[tuple[Rule, ...]] = immutable("table", why="it is another thing then.")
    table: Annotated[str, Field(max_length=63)] = Field(description="The table.")
    things: Annotated[list[Inner], Field(max_length=3)] = Field(default=[], description="Things.")


class ThingStatus(CommonStatus):
    """What is there."""

    count: int | None = Field(default=None, description="How many.")


async def _unused(*_: Any) -> Any:
    raise AssertionError("a manifest needs no world")


def thing(**changes: Any) -> Kind[Any, Any, Any]:
    fields: dict[str, Any] = {
        "names": Names("Thing", "things", "thing", "th"),
        "family": Family.STANDING,
        "room": "vectorops.kinds.thing",
        "spec": ThingSpec,
        "status": ThingStatus,
        "reasons": Reasons,
        "columns": (Column("READY", ".status.ready"), Column("AGE", ".metadata.creationTimestamp", "date", "Age.", 1)),
        "observe": _unused,
        "checks": (),
        "act": _unused,
        "figures": lambda view: view.status,
    }
    return Kind(**{**fields, **changes})


def root_of(kind: Kind[Any, Any, Any]) -> dict[str, Any]:
    root: dict[str, Any] = manifests.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def test_a_crd_has_the_names_the_columns_and_the_status_subresource() -> None:
    crd = manifests.crd(thing())
    version = crd["spec"]["versions"][0]
    assert crd["metadata"]["name"] == "things.vectorops.dev"
    assert crd["spec"]["names"]["shortNames"] == ["th"]
    assert crd["spec"]["names"]["categories"] == ["vectorops"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"] == [
        {"name": "READY", "type": "string", "jsonPath": ".status.ready"},
        {
            "name": "AGE",
            "type": "date",
            "jsonPath": ".metadata.creationTimestamp",
            "description": "Age.",
            "priority": 1,
        },
    ]


def test_a_new_object_has_a_status_that_has_seen_nothing() -> None:
    status = root_of(thing())["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["observedGeneration"]["default"] == -1


def test_nothing_else_in_a_status_has_a_default() -> None:
    status = root_of(thing())["properties"]["status"]
    assert "default" not in yaml.safe_dump(status["properties"]["conditions"])


def test_conditions_are_a_map_by_type_and_described() -> None:
    conditions = root_of(thing())["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    assert conditions["items"]["properties"]["status"]["enum"] == ["True", "False", "Unknown"]


def test_rules_stand_at_the_level_of_their_model() -> None:
    assert [(path, rule["message"].split(":")[0]) for path, rule in rules_of(root_of(thing()))] == [
        (".spec", "table is immutable"),
        (".spec.things[]", "size must be positive."),
    ]


def test_a_kind_without_a_docstring_is_refused() -> None:
    class Silent(BaseModel):
        value: int = Field(description="A value.")

    with pytest.raises(NotAnApi, match=r"^Thing\.spec: the model needs a docstring"):
        manifests.crd(thing(spec=Silent))


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(NotAnApi, match="longer than 63 bytes"):
        manifests.crd(thing(names=Names("Thing", "t" * 64, "thing", "th")))


# -- rights -----------------------------------------------------------------------------------------------------------


def rules(*grants: Grant) -> dict[tuple[str, tuple[str, ...]], set[str]]:
    made: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for grant in rbac.rules([thing(grants=grants)]):
        made.setdefault((grant.group, grant.resources), set()).update(grant.verbs)
    return made


def test_the_operator_may_do_what_it_does_and_nothing_else() -> None:
    assert rules() == {
        ("vectorops.dev", ("things",)): {"get", "list", "watch", "patch"},
        ("vectorops.dev", ("things/status",)): {"patch"},
        ("events.k8s.io", ("events",)): {"create", "patch"},
        ("", ("secrets",)): {"get"},
    }


def test_in_named_namespaces_it_needs_nothing_of_the_cluster() -> None:
    kinds = [document.body["kind"] for document in rbac.namespaced([thing()], ["a", "b"])]
    assert kinds == ["Role", "RoleBinding", "Role", "RoleBinding"]


def test_a_room_s_grants_are_added_and_those_on_the_same_resource_joined() -> None:
    made = rules(
        Grant("apps", ("deployments",), ("get",), "replicas"), Grant("apps", ("deployments",), ("patch",), "env")
    )
    assert made["apps", ("deployments",)] == {"get", "patch"}


def test_a_right_on_a_cluster_s_own_object_is_named_and_given_by_a_cluster_role_only() -> None:
    kube_system = Grant("", ("namespaces",), ("get",), "which cluster", names=("kube-system",), cluster_wide=True)
    kinds = [thing(grants=(kube_system,))]
    stated = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}
    role = next(d.body for d in rbac.install(kinds) if d.body["kind"] == "ClusterRole")
    assert role["rules"][-1] == stated
    assert all(stated not in d.body.get("rules", ()) for d in rbac.namespaced(kinds, ["a"]))


@pytest.mark.parametrize(
    "grant",
    [
        Grant("*", ("pods",), ("get",), "all"),
        Grant("", ("*",), ("get",), "all"),
        Grant("", ("pods",), ("*",), "all"),
        Grant("", ("secrets",), ("get", "list"), "browse"),
    ],
)
def test_grants_that_reach_too_far_are_refused(grant: Grant) -> None:
    with pytest.raises(ValueError, match=grant.why):
        rules(grant)


def test_the_built_in_roles_gain_viewing_editing_and_approving() -> None:
    made = {d.body["metadata"]["name"]: d.body for d in rbac.user_roles([thing()])}
    assert made["vectorops-view"]["rules"][0]["verbs"] == ["get", "list", "watch"]
    assert "delete" in made["vectorops-edit"]["rules"][0]["verbs"]
    assert made["vectorops-admin"]["rules"][0]["verbs"] == ["approve"]
    for who in ("view", "edit", "admin"):
        labels = made[f"vectorops-{who}"]["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{who}"] == "true"


# -- files ------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_in_order_and_writing_again_changes_nothing(tmp_path: Path) -> None:
    assert manifests.write([thing()], tmp_path) == [
        "charts/vectorops/templates/_rbac-rules.tpl",
        "charts/vectorops/templates/crds/things.yaml",
        "crds/things.yaml",
        "examples/install/rbac.yaml",
    ]
    assert manifests.check([thing()], tmp_path) == []
    assert manifests.write([thing()], tmp_path) == []


def test_a_file_that_was_edited_removed_or_left_over_is_named(tmp_path: Path) -> None:
    manifests.write([thing()], tmp_path)
    (tmp_path / "crds/things.yaml").write_text("edited")
    (tmp_path / "crds/former.yaml").write_text("left over")
    (tmp_path / "charts/vectorops/templates/crds/former.yaml").write_text("left over")
    (tmp_path / manifests.RBAC_FILE).unlink()
    differing = manifests.check([thing()], tmp_path)
    chart = "charts/vectorops/templates/crds/former.yaml"
    assert differing == [chart, "crds/former.yaml", "crds/things.yaml", "examples/install/rbac.yaml"]
    manifests.write([thing()], tmp_path)
    assert manifests.check([thing()], tmp_path) == []


def test_a_file_says_where_it_comes_from_and_each_rule_why_it_is_there(tmp_path: Path) -> None:
    manifests.write([thing()], tmp_path)
    crd, roles = (tmp_path / "crds/things.yaml").read_text(), (tmp_path / manifests.RBAC_FILE).read_text()
    assert crd.startswith("# Generated by `make manifests` from vectorops.kinds.thing.resource; do not edit.\n")
    assert "# what `kubectl describe` tells\n- apiGroups:\n  - events.k8s.io\n" in roles
    parsed = list(yaml.safe_load_all(roles))
    assert [document["kind"] for document in parsed[:4]] == [
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ]
    assert len(parsed[2]["rules"]) == len(rbac.rules([thing()]))
