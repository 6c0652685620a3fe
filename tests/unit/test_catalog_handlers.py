"""Every handler of the default catalog on the demo data: what it returns is true, and it is JSON.

Handlers are called the way the product calls them: the file is loaded by path, with its own folder on
`sys.path`, and nothing of the product is needed.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CATALOG = Path(__file__).resolve().parents[2] / "workflows"
SKILLS = CATALOG / "skills"
DATA = CATALOG / "data"
FEEDBACK, RESEARCH, TRAINING, METRICS = (
    DATA / name for name in ("user-feedback.csv", "market-research.md", "training-data.csv", "metrics.csv")
)
HANDLERS = sorted(p for p in SKILLS.rglob("handlers/*.py") if not p.name.startswith("_"))
ALLOWED = {"str", "int", "float", "bool", "list", "dict", "Path"}

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def handler() -> Iterator[Callable[[str], Call]]:
    """`handler("data-analysis/trend")` is that function; its result is checked to be JSON."""
    path, modules, bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True

    def load(name: str) -> Call:
        skill, stem = name.rsplit("/", 1)
        (file,) = [p for p in HANDLERS if p.stem == stem and p.parent.parent.name == skill]
        sys.path.insert(0, str(file.parent))
        spec = importlib.util.spec_from_file_location(f"handler_{stem}", file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function = getattr(module, stem)

        def call(*args: Any, **kwargs: Any) -> dict[str, Any]:
            result = function(*args, **kwargs)
            assert json.loads(json.dumps(result, allow_nan=False)) == result
            return result

        return call

    yield load
    sys.path[:], sys.dont_write_bytecode = path, bytecode
    for name in set(sys.modules) - modules:
        if name.startswith("_") and str(SKILLS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], Path]:
    """`written("x.md", text)` is a file with that text."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("file", HANDLERS, ids=lambda p: f"{p.parent.parent.name}/{p.stem}")
def test_handler_keeps_the_convention(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == file.stem]
    arguments = function.args.args
    assert not (function.args.posonlyargs or function.args.vararg or function.args.kwarg)
    for argument in arguments:
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        assert annotation in ALLOWED or annotation.startswith(("Literal[", "list[", "dict[")), annotation
    described = (ast.get_docstring(function) or "").partition("Args:")[2]
    for argument in arguments:
        assert f"\n    {argument.arg}: " in described, f"{argument.arg} is not described"
    imported = {
        alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    } | {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    private = {p.stem for p in file.parent.glob("_*.py")}
    assert imported <= set(sys.stdlib_module_names) | private
    assert not imported & {"socket", "urllib", "http", "subprocess", "os"}


# --- ai-engineer ---


def test_training_beats_the_baseline_on_unseen_rows(handler: Callable[[str], Call]) -> None:
    result = handler("ai-engineer/model_training")(TRAINING)
    assert 0.55 < result["baseline_accuracy"] < 0.65
    assert result["held_out_accuracy"] > 0.8
    assert result["columns_left_out"] == ["ticket_id"]
    assert result["rows"] == {"training": 336, "held_out": 84}
    best = max(result["candidates"], key=lambda c: c["cv_accuracy"])
    assert result["model"]["algorithm"] == best["algorithm"] != "majority"


def test_training_is_the_same_twice_and_differs_by_seed(handler: Callable[[str], Call]) -> None:
    train = handler("ai-engineer/model_training")
    assert train(TRAINING) == train(TRAINING)
    assert train(TRAINING, seed=8)["model_id"] != train(TRAINING)["model_id"]


@pytest.mark.parametrize("algorithm", ["logistic_regression", "naive_bayes", "decision_stump"])
def test_each_algorithm_learns(handler: Callable[[str], Call], algorithm: str) -> None:
    result = handler("ai-engineer/model_training")(TRAINING, algorithm=algorithm)
    assert result["model"]["algorithm"] == algorithm
    assert result["gain_over_baseline"] > 0.03


def test_training_tells_three_classes_apart(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    rows = [f"{i % 3 * 10 + i % 7 / 10},{-(i % 3) * 5 + i % 5 / 10},{'abc'[i % 3]}" for i in range(90)]
    table = written("three.csv", "x,y,kind\n" + "\n".join(rows))
    for algorithm in ("logistic_regression", "naive_bayes"):
        assert handler("ai-engineer/model_training")(table, algorithm=algorithm)["held_out_accuracy"] > 0.95


def test_evaluation_agrees_with_training(handler: Callable[[str], Call]) -> None:
    trained = handler("ai-engineer/model_training")(TRAINING)
    found = handler("ai-engineer/model_evaluation")(TRAINING)
    assert found["model_id"] == trained["model_id"]
    assert found["passed"] and found["reasons"] == []
    assert found["accuracy"] == trained["held_out_accuracy"]
    counted = sum(n for line in found["confusion"].values() for n in line.values())
    right = sum(found["confusion"][name][name] for name in found["confusion"])
    assert counted == found["rows"] == 84 and round(right / counted, 4) == found["accuracy"]
    low, high = found["accuracy_95"]
    assert low < found["accuracy"] < high
    strongest = {entry["feature"] for entry in found["influence"][:3]}
    assert strongest == {"wait_hours", "sentiment", "reopened_count"}


def test_evaluation_refuses_noise(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    rows = [f"{i * 7919 % 101},{(i * i) % 2}" for i in range(120)]
    found = handler("ai-engineer/model_evaluation")(written("noise.csv", "x,label\n" + "\n".join(rows)))
    assert not found["passed"]
    assert any("baseline" in reason or "gain" in reason for reason in found["reasons"])


def test_deployment_has_a_gate_and_levels_that_get_worse(handler: Callable[[str], Call]) -> None:
    found = handler("ai-engineer/model_deployment")(TRAINING, name="triage")
    assert found["ready"] and found["service"] == "triage"
    qualities = [level["accuracy"] for level in found["degradation"]]
    assert qualities == sorted(qualities, reverse=True) and len(qualities) == 3
    assert found["hand_over"]["accuracy_of_the_rest"] > qualities[0]
    assert not handler("ai-engineer/model_deployment")(TRAINING, least_gain=0.9)["ready"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,label\n1,x\n", "too few"),
        ("a,label\n" + "1,x\n" * 30, "different values"),
        ("a,label\n" + "word,x\nword,y\n" * 20, "no numeric feature"),
    ],
)
def test_training_refuses_what_cannot_be_learnt(
    handler: Callable[[str], Call], written: Callable[[str, str], Path], text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        handler("ai-engineer/model_training")(written("bad.csv", text))


# --- product-design ---


def test_requirements_are_found_with_strength_kind_and_source(handler: Callable[[str], Call]) -> None:
    found = handler("product-design/extract_requirements")(RESEARCH)["requirements"]
    by_text = {entry["text"]: entry for entry in found}
    hand_over = next(e for t, e in by_text.items() if t.startswith("把握低于 70%"))
    assert (hand_over["strength"], hand_over["kind"], hand_over["measurable"]) == ("must", "quality", True)
    line = int(hand_over["sources"][0].removeprefix("line "))
    assert "70%" in RESEARCH.read_text(encoding="utf-8").splitlines()[line - 1]
    weekly = next(e for t, e in by_text.items() if "每周分诊质量周报" in t)
    assert weekly["strength"] == "could"
    assert [e["strength"] for e in found] == sorted(
        (e["strength"] for e in found), key=("must", "should", "could").index
    )


def test_requirements_of_a_table_name_the_row(handler: Callable[[str], Call]) -> None:
    found = handler("product-design/extract_requirements")(FEEDBACK)["requirements"]
    assert all(source.startswith("FB-") for entry in found for source in entry["sources"])


def test_like_requirements_become_one_with_both_sources(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    text = "- 系统必须保留日志 180 天。\n- 系统必须保留日志 180 天以上。\n- 希望界面友好。\n"
    found = handler("product-design/extract_requirements")(written("r.md", text))
    assert found["found"] == 2
    assert found["requirements"][0]["sources"] == ["line 1", "line 2"]
    assert found["requirements"][1]["vague"] == ["友好"] and found["to_clarify"]


def test_feedback_topics_rank_grave_before_many(handler: Callable[[str], Call]) -> None:
    found = handler("product-design/summarise_feedback")(FEEDBACK)
    pains = [topic["pain"] for topic in found["topics"]]
    assert pains == sorted(pains, reverse=True)
    assert found["topics"][0]["topic"] == "升级与优先级"
    assert found["rows"] == 80 and found["mean_rating"] == 3.1
    assert sum(found["topics"][0]["severity"].values()) == found["topics"][0]["rows"]


def test_rice_orders_and_respects_capacity_and_dependencies(handler: Callable[[str], Call]) -> None:
    features = [
        {"name": "warn", "reach": 100, "impact": 2, "confidence": 0.8, "effort": 4, "depends_on": "data"},
        {"name": "data", "reach": 50, "impact": 1, "confidence": 0.5, "effort": 2},
        {"name": "sort", "reach": 100, "impact": 2, "confidence": 0.7, "effort": 4},
    ]
    found = handler("product-design/prioritise_features")(features, capacity=6)
    assert [entry["name"] for entry in found["ranked"]] == ["warn", "sort", "data"]
    assert found["ranked"][0]["rice"] == 40.0 and found["ranked"][0]["shaky"]
    assert found["effort_chosen"] <= 6
    assert "warn" not in found["chosen"] or "data" in found["chosen"]
    with pytest.raises(ValueError, match="confidence lies between"):
        handler("product-design/prioritise_features")([{**features[0], "confidence": 80}])


def test_stories_ask_for_what_is_missing(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    text = "- 客服主管需要一键纠正结果。\n- 响应必须快速。\n- 把握低于 70% 的工单必须转人工。\n"
    found = handler("product-design/write_user_stories")(written("s.md", text))
    vague, limited, named = found["stories"]
    assert any("快速" in q for q in vague["questions"]) and any("数值" in q for q in vague["questions"])
    assert any("70" in criterion for criterion in limited["acceptance"][1:])
    assert "客服主管" in named["story"] and "谁需要它？" not in named["questions"]


# --- system-design ---


def test_constraints_have_numbers_and_gaps_are_named(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    found = handler("system-design/find_constraints")(RESEARCH)
    latency = next(c for c in found["constraints"] if "latency" in c["qualities"])
    assert any("3 秒" in amount for amount in latency["amounts"])
    assert {"latency", "availability", "quality", "retention"} <= set(found["measured"])
    text = "响应要快。\n可用性不低于 99.5%。\n"
    gaps = handler("system-design/find_constraints")(written("spec.md", text))
    assert "latency" in gaps["no_number"] and "availability" not in gaps["no_number"]
    assert gaps["mentioned_without_number"][0]["line"] == 1


def test_cycle_is_found_and_build_order_respects_needs(handler: Callable[[str], Call]) -> None:
    check = handler("system-design/check_dependencies")
    bad = check({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})
    assert not bad["sound"] and bad["cycles"] == [["a", "b", "c", "a"]] and bad["build_order"] == []
    assert check({"a": ["a"]})["cycles"] == [["a", "a"]]
    good = check({"gateway": ["orchestrator"], "orchestrator": ["redis", "postgres"]})
    assert good["sound"] and good["build_order"] == [["postgres", "redis"], ["orchestrator"], ["gateway"]]
    assert good["blast_radius"][0] == {"component": "postgres", "breaks": 2}
    assert good["not_described"] == ["postgres", "redis"]


def test_a_long_chain_needs_no_recursion(handler: Callable[[str], Call]) -> None:
    chain = {f"c{i}": [f"c{i + 1}"] for i in range(2000)}
    chain["c2000"] = ["c0"]
    found = handler("system-design/check_dependencies")(chain)
    assert len(found["cycles"]) == 1 and len(found["cycles"][0]) == 2002


def test_options_show_whether_the_winner_is_robust(handler: Callable[[str], Call]) -> None:
    compare = handler("system-design/compare_options")
    clear = compare({"cost": 3, "risk": 2}, {"buy": {"cost": 5, "risk": 4}, "build": {"cost": 2, "risk": 3}})
    assert clear["winner"] == "buy" and clear["robust"]
    assert clear["dominated"] == [{"option": "build", "by": "buy"}]
    close = compare({"cost": 1, "risk": 1}, {"x": {"cost": 5, "risk": 3}, "y": {"cost": 3, "risk": 4.9}})
    assert not close["robust"] and close["flips"][0]["winner"] == "y"
    with pytest.raises(ValueError, match="between 1 and 5"):
        compare({"cost": 1}, {"x": {"cost": 9}, "y": {"cost": 1}})


def test_capacity_follows_queueing_theory(handler: Callable[[str], Call]) -> None:
    estimate = handler("system-design/estimate_capacity")
    # One server at half load: the M/M/1 waiting share is the utilisation, the mean wait s * u / (1 - u).
    single = estimate(43_200, 1.0, peak_factor=1, least_replicas=1)
    assert (single["replicas"], single["utilisation_at_peak"]) == (1, 0.5)
    assert single["share_that_waits"] == pytest.approx(0.5)
    assert single["mean_wait_seconds"] == pytest.approx(1.0)
    assert single["utilisation_with_one_replica_lost"] is None
    busy = estimate(8_640_000, 0.2, peak_factor=3, kilobytes_per_request=10, retention_days=30)
    assert busy["busy_slots_at_peak"] == 60.0 and busy["utilisation_at_peak"] <= 0.7
    assert busy["storage_gigabytes"] == 2592.0


# --- shared ---


ENTRY = {
    "number": "RF-1",
    "kind": "refund",
    "amount": 947.004,
    "currency": "cny",
    "reason": " Not used. ",
    "decided_by": ["bob", "alice", "bob"],
}


def test_an_entry_is_recorded_once(handler: Callable[[str], Call], tmp_path: Path) -> None:
    record, books = handler("bookkeeping/record_entry"), tmp_path / "books"
    first = record(**ENTRY, register=str(books))
    assert first["amount"] == 947.0 and first["currency"] == "CNY"
    assert first["decided_by"] == ["alice", "bob"] and first["reason"] == "Not used."
    kept = (books / "RF-1.json").read_text("utf-8")
    again = record(**ENTRY, register=str(books))
    assert again == first, "a call that is repeated gives the same"
    with pytest.raises(ValueError, match="recorded already, with other facts"):
        record(**{**ENTRY, "amount": 5}, register=str(books))
    assert (books / "RF-1.json").read_text("utf-8") == kept
    assert [f.name for f in books.iterdir()] == ["RF-1.json"]


def test_an_entry_is_taken_back_once_and_for_good(handler: Callable[[str], Call], tmp_path: Path) -> None:
    record, void = handler("bookkeeping/record_entry"), handler("bookkeeping/void_entry")
    assert void("RF-1", "x", register=str(tmp_path))["voided"] is False
    record(**ENTRY, register=str(tmp_path))
    kept = (tmp_path / "RF-1.json").read_text("utf-8")
    taken_back = [void("RF-1", "x", register=str(tmp_path)) for _ in range(2)]
    assert taken_back[0] == taken_back[1] and taken_back[0]["voided"] is True
    assert (tmp_path / "RF-1.json").read_text("utf-8") == kept
    with pytest.raises(ValueError, match="taken back"):
        record(**ENTRY, register=str(tmp_path))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["RF-1.json", "RF-1.void.json"]


def test_without_a_register_the_entry_is_all_there_is(
    handler: Callable[[str], Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record, void = handler("bookkeeping/record_entry"), handler("bookkeeping/void_entry")
    entry = record(**ENTRY)
    assert entry["file"] == "" and entry["digest"] == record(**ENTRY)["digest"]
    assert void("RF-1", "x") == {"number": "RF-1", "voided": True, "reason": "x", "file": ""}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"amount": 0}, "above zero"),
        ({"amount": -5}, "above zero"),
        ({"decided_by": []}, "nobody decided"),
        ({"number": "../RF-1"}, "no number of an entry"),
        ({"number": ""}, "no number of an entry"),
        ({"register": "books"}, "no absolute path"),
    ],
)
def test_what_cannot_be_an_entry(change: dict[str, Any], told: str, handler: Callable[[str], Call]) -> None:
    with pytest.raises(ValueError, match=told):
        handler("bookkeeping/record_entry")(**{**ENTRY, **change})


def test_table_is_described(handler: Callable[[str], Call]) -> None:
    found = handler("data-analysis/describe_table")(FEEDBACK)
    columns = {entry["name"]: entry for entry in found["columns"]}
    assert found["rows"] == 80
    assert columns["severity"]["kind"] == "word" and columns["text"]["kind"] == "text"
    assert (columns["rating"]["min"], columns["rating"]["max"]) == (1, 5)
    assert columns["date"]["first"] < columns["date"]["last"]


def test_table_reads_markdown_and_json(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    describe = handler("data-analysis/describe_table")
    assert describe(RESEARCH)["columns"][0]["name"] == "角色"
    rows = json.dumps([{"n": 1, "t": "a"}, {"n": 2.5, "t": None}])
    columns = describe(written("rows.json", rows))["columns"]
    assert columns[0]["max"] == 2.5 and columns[1]["missing"] == 1
    with pytest.raises(ValueError, match="no table"):
        describe(written("plain.md", "nothing here\n"))


def test_groups_add_up(handler: Callable[[str], Call]) -> None:
    group = handler("data-analysis/group_by")
    counted = group(FEEDBACK, "severity")
    assert counted["totals"] == {"low": 26, "medium": 26, "high": 20, "critical": 8}
    shares = group(FEEDBACK, "channel", measure="share")
    assert sum(shares["totals"].values()) == pytest.approx(1)
    ratings = group(FEEDBACK, "severity", "rating", "mean")["totals"]
    assert ratings["critical"] < ratings["high"] < ratings["medium"] < ratings["low"]
    with pytest.raises(ValueError, match="the table has: id, date"):
        group(FEEDBACK, "colour")


def test_correlation_tells_signal_from_chance(handler: Callable[[str], Call]) -> None:
    found = handler("data-analysis/correlate")(TRAINING, target="escalated")
    pairs = {pair["columns"][0]: pair for pair in found["pairs"]}
    assert pairs["sentiment"]["r"] < -0.4 and not pairs["sentiment"]["could_be_chance"]
    assert pairs["attachments"]["could_be_chance"]


def test_ranks_see_what_lines_do_not(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    table = written("curve.csv", "x,y\n" + "\n".join(f"{i},{2**i}" for i in range(20)))
    correlate = handler("data-analysis/correlate")
    assert correlate(table, method="spearman")["pairs"][0]["r"] == 1.0
    assert correlate(table)["pairs"][0]["r"] < 0.8


def test_outlier_week_is_found(handler: Callable[[str], Call]) -> None:
    found = handler("data-analysis/find_outliers")(METRICS, "tickets")["columns"]["tickets"]
    assert [row["cells"]["week"] for row in found["rows"]] == ["2026-W37"]


def test_trend_falls_and_names_the_odd_week(handler: Callable[[str], Call]) -> None:
    trend = handler("data-analysis/trend")
    minutes = trend(METRICS, "week", "median_assign_minutes")
    assert minutes["direction"] == "falling" and minutes["moving_mean"] < minutes["moving_mean_before"]
    tickets = trend(METRICS, "week_start", "tickets")
    assert tickets["stands_out"][0]["period"] == "2026-09-07"


def test_flat_stays_flat(handler: Callable[[str], Call], written: Callable[[str, str], Path]) -> None:
    table = written("flat.csv", "t,v\n" + "\n".join(f"{i},{5 + (i % 2) * 0.1}" for i in range(12)))
    assert handler("data-analysis/trend")(table, "t", "v")["direction"] == "flat"


def test_search_finds_the_chinese_paragraph(handler: Callable[[str], Call]) -> None:
    search = handler("web-search/search_corpus")
    found = search(RESEARCH, "把握低于多少的工单转人工")
    assert found["source"] == "local"
    assert found["results"][0]["text"].startswith("- 把握低于 70%")
    scores = [hit["score"] for hit in found["results"]]
    assert scores == sorted(scores, reverse=True)
    assert "stack traces" in search(RESEARCH, "English stack traces")["results"][0]["text"]
    assert "Webhook" in search(FEEDBACK, "webhook 重复推送")["results"][0]["text"]
    assert search(RESEARCH, "量子纠缠")["results"] == []
    with pytest.raises(ValueError, match="no word"):
        search(RESEARCH, "?!")


def test_quotes_are_checked_word_by_word(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    report = written(
        "report.md",
        "主管说「我不怕它错,我怕它错了不告诉我有多大把握」。\n"
        "也有人说「我不怕他错,我怕它错了没告诉我有多大把握」。\n"
        "老板说「我们愿意支付每月一千元的价格」。\n",
    )
    found = handler("web-search/verify_quotes")(report, RESEARCH)
    assert [c["found"] for c in found["checked"]] == ["exact", "close", "not_found"]


def test_document_is_inspected(handler: Callable[[str], Call], written: Callable[[str, str], Path]) -> None:
    inspect = handler("file-management/inspect_document")
    assert inspect(RESEARCH)["problems"] == [] and inspect(RESEARCH)["structure"]["tables"] == 4
    assert inspect(FEEDBACK)["structure"]["rows"] == 80
    assert "code block" in inspect(written("a.md", "```\nopen\n"))["problems"][0]
    assert "JSON" in inspect(written("a.json", "{"))["problems"][0]


def test_outline_has_levels_lines_and_gaps(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    outline = handler("file-management/outline_document")
    sections = outline(RESEARCH)["sections"]
    assert [s["title"] for s in sections][:3] == ["市场调研：中小企业 AI 工单分诊", "1. 背景", "2. 调研方法"]
    lines = RESEARCH.read_text(encoding="utf-8").splitlines()
    assert all(lines[s["line"] - 1].endswith(s["title"]) for s in sections)
    text = "# A\n## B\n## C\ntext\n```\n# no heading\n```\n"
    assert outline(written("gap.md", text))["empty_sections"] == ["A / B"]


def test_parts_are_small_and_lose_nothing(handler: Callable[[str], Call]) -> None:
    split = handler("file-management/split_document")
    listed = split(RESEARCH, max_chars=700)
    texts = [split(RESEARCH, max_chars=700, part=n)["text"] for n in range(1, listed["parts"] + 1)]
    assert listed["parts"] > 3 and max(map(len, texts)) <= 700
    whole = RESEARCH.read_text(encoding="utf-8")
    assert "".join("".join(texts).split()) == "".join(whole.split())
    with pytest.raises(ValueError, match="does not exist"):
        split(RESEARCH, part=99)


def test_versions_are_compared_by_section(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    diff = handler("file-management/diff_documents")
    text = RESEARCH.read_text(encoding="utf-8")
    after = written("after.md", text.replace("P99 < 3 秒", "P99 < 2 秒") + "\n## 12. 附录\n新增\n")
    found = diff(RESEARCH, after)
    assert [p.split(" / ")[-1] for p in found["sections_changed"]] == ["8. 关键要求（由访谈归纳）"]
    assert [p.split(" / ")[-1] for p in found["sections_added"]] == ["12. 附录"]
    assert not found["same"] and found["likeness"] > 0.9
    assert diff(RESEARCH, RESEARCH)["same"]


def test_merge_keeps_every_voice(handler: Callable[[str], Call], written: Callable[[str, str], Path]) -> None:
    merge = handler("communication/merge_feedback")
    review = written(
        "review.md",
        "# 评审\n## 产品经理\n- 降级策略写清楚了\n- 升级召回率不足 80%,不同意上线\n"
        "## 架构师\n- 降级策略已经写清楚\n- 升级召回率不足 80% 可以接受上线\n"
        "## AI工程师\n- 需要更多标注数据\n",
    )
    found = merge(review)
    assert found["voices"] == {"产品经理": 2, "架构师": 2, "AI工程师": 1}
    assert (found["agreed"], found["disputed"], len(found["points"])) == (1, 1, 3)
    said = [entry["text"] for point in found["points"] for entry in point["said"]]
    assert len(said) == found["statements"] == 5
    assert sum(merge(FEEDBACK)["voices"].values()) == 80
    assert merge(written("v.json", '{"a": ["同意上线"], "b": "同意上线"}'))["agreed"] == 1


def test_action_items_have_owner_and_date(
    handler: Callable[[str], Call], written: Callable[[str, str], Path]
) -> None:
    minutes = written(
        "minutes.md",
        "- [ ] @李雷 2026-11-20 前补充标注\n- [x] 由王芳负责数据脱敏\n普通的一句话\n"
        "## 下一步\n- 负责人：韩梅 下周三提交报告\n- 写结论\n## 背景\n- 不是任务\nTODO: check quota\n",
    )
    found = handler("communication/action_items")(minutes)
    assert [item["owner"] for item in found["items"]] == ["李雷", "王芳", "韩梅", "", ""]
    assert [item["due"] for item in found["items"]][:3] == ["2026-11-20", "", "下周三"]
    assert (found["open"], found["done"], found["without_owner"]) == (4, 1, [6, 9])


def test_message_opens_with_its_conclusion(handler: Callable[[str], Call]) -> None:
    draft = handler("communication/draft_message")
    found = draft("灰度延期一周", ["召回率 76%", "标注不足"], "management", ask="批准延期")
    assert found["body"].splitlines()[2] == "灰度延期一周"
    assert found["subject"] == "【需确认】灰度延期一周"
    assert found["remarks"] == ["an ask without a deadline is read as optional"]
    with pytest.raises(ValueError, match="purpose"):
        draft(" ", [])
