"""Words of delivery work by what they mean, in Chinese and English.

Headings are often asked for in one language while the material (keys of tool results, columns of tables)
is in the other. A word found here also counts as its concept, so that `confusion` answers 混淆矩阵. The words
are those of product, design, engineering, data and review work in general; no single document is behind them.
"""

from __future__ import annotations

from collections.abc import Mapping

_GROUPS = """
acceptance: 验收 达标 | acceptance criterion criteria
accuracy: 准确 正确率 精度 | accuracy correct
agreement: 认可 赞同 优点 亮点 肯定 做得好 | agree agreement praise advantage gain passed ready
anomaly: 异常 离群 突变 | anomaly outlier standsout
architecture: 架构 设计 技术 | architecture architect design technical tech
assumption: 假设 前提 估算 | assumption assume assumes estimate premise
availability: 可用性 可用率 不可用 宕机 停机 | availability uptime outage sla downtime
baseline: 基线 基准 多数类 | baseline benchmark majority
bias: 偏差 偏见 | bias skew
capacity: 容量 吞吐 并发 负载 峰值 月均 日均 | capacity throughput concurrency load volume peak qps
change: 变化 趋势 变好 变差 幅度 | change trend direction slope rising falling
component: 组件 模块 子系统 渠道 | component module subsystem channel microservice
conclusion: 结论 总结 定论 建议 | conclusion verdict recommendation recommend summary decided
confidence: 置信 把握 区间 | confidence interval margin probability
confusion: 混淆 错分 误分 | confusion misclassified
constraint: 约束 限制 上限 下限 | constraint constraints limit restriction bound
contradiction: 矛盾 冲突 不一致 | contradiction conflict inconsistency disagree disagreement differ
cost: 成本 价格 费用 预算 定价 收费 加价 毛利 | cost price budget fee pricing spend
data: 数据 样本 字段 | data dataset sample column table rows training
decision: 决定 决策 选择 取舍 | decision decide choice chosen
digest: 摘要 指纹 哈希 校验和 | digest sha256 hash checksum
evidence: 证据 依据 来源 出处 原话 原文 | evidence source citation quote quotation basis proof
exclusion: 不做 不含 第二期 二期 以后再 | excluded exclusion deferred postponed
false_alarm: 误报 | fpr false_alarm false_positive
fallback: 降级 兜底 容错 失效 | fallback degradation degrade degraded failover
feature: 特征 变量 因素 | feature factor variable
feedback: 反馈 评价 投诉 | feedback review comment complaint
flow: 数据流 流程 进线 流转 | flow pipeline stream
goal: 目标 成功标准 愿景 | goal objective target success
handover: 转人工 人工 交给人 | handover manual person people human
identifier: 编号 标识 单号 | identifier id model_id number
influence: 影响 重要性 贡献 权重 | influence importance impact contribution weight loss
input: 输入 | input inputs
interface: 接口 | interface api endpoint
interval: 区间 置信 | interval
latency: 延迟 响应 时延 毫秒 秒内 秒钟 | latency delay p99 p95 milliseconds
limitation: 局限 不足 短板 弱点 | limitation limitations caveat caution weakness warning warnings shortcoming
market: 市场 行业 | market industry
matrix: 矩阵 | matrix confusion
metric: 指标 度量 评估 | metric measure accuracy precision recall score kpi evaluation
model: 模型 算法 训练 | model algorithm classifier ml
open: 待确认问题 未决问题 待确认 未决 待定 疑点 未知 | open unclear undecided tbd clarify unknown pending gap
option: 选项 备选 比较 对比 竞品 候选 | option alternative candidate candidates comparison compare competitor
output: 输出 返回 | output outputs result
owner: 负责人 由谁 责任人 | owner assignee responsible
passed: 通过 门槛 合格 达标 就绪 | passed pass gate ready
period: 本周 上周 周期 | week period month
plan: 步骤 计划 阶段 里程碑 一期 排期 | plan step phase stage milestone roadmap
precision: 精确 查准 | precision
priority: 优先 排序 最痛 | priority rank pain rice
privacy: 客户数据 隐私 脱敏 泄露 外泄 个人信息 出境 合规 | privacy personal leak compliance gdpr
problem: 问题 痛点 缺陷 故障 抱怨 | problem pain issue defect bug topic topics
product: 产品 规格 | product spec specification
quality: 质量 准确 召回 误报 误判 正确率 | quality accuracy precision recall error
reason: 为什么 原因 理由 机会 因为 | why reason because opportunity
recall: 召回 查全 | recall
reliability: 可靠 稳定 丢失 容灾 备份 | reliability reliable availability backup
requirement: 需求 要求 | requirement need story
retention: 保留 留存 归档 | retention archive
risk: 风险 隐患 担心 | risk threat danger worry
rollback: 回滚 退回 撤回 回退 停止 | rollback revert
rollout: 上线 灰度 发布 部署 | rollout release deploy deployed deployment canary launch stage shadow
scope: 范围 本期 功能 能力 做什么 一期 | scope feature capability
security: 安全 权限 加密 审计 | security permission encryption audit
severity: 严重 紧急 阻断 | severity severe critical urgent urgency
stop: 停止 终止 中止 | stop abort
strength: 强度 必须 应该 应当 可以 | strength must should could
test: 测试 验证 检查 冒烟 | test verify check smoke
threshold: 阈值 门限 低于 高于 | threshold below above cutoff
time: 时间 期限 时限 截止 周期 | time deadline date duration schedule
user: 用户 客户 受众 给谁 角色 主管 | user customer audience client persona segment
"""

_VALUES = """
must: 必须 务必 | must shall required
should: 应该 应当 应 | should recommended
could: 可以 可选 | could may optional
high: 高 重要 | high important
medium: 中 | medium
low: 低 轻微 | low minor
critical: 阻断 致命 | critical blocker
"""


def _read(groups: str) -> dict[str, tuple[str, ...]]:
    by_word: dict[str, tuple[str, ...]] = {}
    for line in groups.strip().splitlines():
        concept, _, words = line.partition(":")
        for word in words.replace("|", " ").split():
            by_word[word] = (*by_word.get(word, ()), f"#{concept}")
    return by_word


CONCEPTS: Mapping[str, tuple[str, ...]] = _read(_GROUPS)
"""Concepts by word; a concept's name begins with `#`."""
VALUES: Mapping[str, tuple[str, ...]] = _read(_VALUES)
"""Meanings of the short words that cells hold, for answers in another language than the table's."""
MEASURES = ("#accuracy", "#precision", "#recall", "#false_alarm", "#availability", "#latency", "#retention")
"""Concepts that numbers are given for."""
