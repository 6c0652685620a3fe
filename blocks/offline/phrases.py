"""What the offline model says in its own words, in English and Chinese."""

from __future__ import annotations

from blocks.offline.document import APPENDIX, MISSING, NO_CONTENT, NOTE_MARK, REST

_PHRASES = {
    "note": (
        f"Made by phaseline's {NOTE_MARK} from this step's inputs by fixed rules: "
        "passages are extracted and tables counted, nothing is judged. No language model was asked.",
        f"本文由 phaseline 的离线模型 ({NOTE_MARK}) 按固定规则从本步骤的输入生成：只摘录原文、统计表格，"
        "不作判断，没有调用任何语言模型。",
    ),
    "speaker": ("Answered as", "回答者"),
    "answer": ("Answer", "答复"),
    "nothing": (
        "_The inputs and tool results hold nothing about this._",
        "_输入和工具结果里没有这方面的内容。_",
    ),
    "missing": (f"_{MISSING[0]}{{}}._", f"_{MISSING[1]}{{}}。_"),
    "see": ("_See “{}”._", "_见「{}」一节。_"),
    "choice": (
        "_Left to people: {}. This lists evidence and decides nothing._",
        "_由人判定：{}。这里只列依据，不作判断。_",
    ),
    "agreement": (
        "_Whether to agree is left to people: this lists what is stated so that it can be checked._",
        "_是否认可由人判断：这里只列出写得明确、可以核对的内容。_",
    ),
    "blank": ("_— : not given in the material._", "_「—」：材料里没有给出。_"),
    "rest": REST,
    "tools": ("Tool results", "工具结果"),
    "more": ("Further key passages", "其他要点"),
    "open": ("Open questions found in the inputs", "输入中的未决问题"),
    "gap": (f"“{{}}”{NO_CONTENT[0]}", f"「{{}}」{NO_CONTENT[1]}"),
    "failed": ("failed", "失败"),
    "appendix": APPENDIX,
    "task": ("Task", "任务"),
    "inputs": ("Inputs", "输入"),
    "none": ("No documents were given.", "没有给出文档。"),
    "outline": ("Outline", "提纲"),
    "points": ("Key passages", "关键内容"),
    "rows": ("{} of {} rows", "{1} 行中的 {0} 行"),
    "measure": ("measure", "指标"),
    "document": ("document", "文档"),
    "stated": ("as stated", "原文"),
    "apart": ("{} says {}; {} gives {}", "{} 写 {}，{} 给出 {}"),
    "agree": (
        "_No stated bound is broken by a figure of another document. What they say about the same measures:_",
        "_没有发现一份文档的数值越过另一份写明的界限。各文档对同一指标的说法：_",
    ),
    "unmeasured": ("_Bounds that no document gives a figure for:_", "_有界限、没有任何文档给出数值：_"),
    "broken": (
        "_A stated bound and a figure do not fit. What the documents say about the same measures:_",
        "_有数值越过了写明的界限。各文档对同一指标的说法：_",
    ),
}


class Phrases:
    """The phrases of one language."""

    def __init__(self, chinese: bool) -> None:
        self.chinese = chinese

    def __call__(self, name: str, *values: object) -> str:
        """A phrase with its places filled."""
        phrase = _PHRASES[name][self.chinese]
        return phrase.format(*values) if values else phrase

    def listed(self, items: list[str]) -> str:
        """Several words in one line."""
        return ("、" if self.chinese else ", ").join(items)

    def origin(self, source: str, place: str = "", more: str = "") -> str:
        """Where something stands; later steps read their documents without these marks."""
        return f"〔{' · '.join(part for part in (source, place, more) if part)}〕"
