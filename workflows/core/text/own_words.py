"""The words in which our own documents are written: fields, fixed values, keywords of JSON Schema and the
Messages API.

None of them may be taken for a secret, and each stays as it is where it stands alone in a document of ours:
with a mark in its place nobody could read the plan, the row or the request any more. Words of fewer than six
characters are left out, since no value that short is masked. A test holds that all models, tables and their
fixed values are here.
"""

from __future__ import annotations

_WORDS = """
account action actions active active_seconds active_us actual adaptive additionalProperties agents agreement
allowed-tools allowed_endpoints allowed_tools always answer answer_with answered anthropic api_error api_url
appendix approval approve approved arguments arguments_digest artifact artifacts ask_person assignees
assistant attempt attempts automated autoscaling availability available await_event backend backoff base64
before boolean boundaries broken budget budget_id budgets by_admin by_timeout cache_control
cache_creation_input_tokens cache_read cache_read_input_tokens cache_write cancel_requested cancelled
ceiling characters choice choices citation citations clock_ahead close_memory collections column command
commands compatibility completed concurrent_sessions connect_timeout connection connection_string
connections connector contains content content_block content_key context continue conversation
cooldown_until counts create created credential critical CRITICAL critical_path daemon date-time deadline
decided decided_by decided_epoch decision declared default default_file default_locale definition
definitions DELETE delivery dependentRequired depends_on deprecated description detail differences differs
digest dispatch document documents domains dryrun duplicate duration duties effect effect_key effects effort
enabled end_turn endpoints environment ephemeral errors escalate escalate_to estimate event_id event_key
event_type events evidence examples excerpt exclusiveMaximum exclusiveMinimum execution executor exit_code
expectations expected_output expiration expired expires exponential failed failed_parts failed_steps
failed_tool_calls families family feedback file_access file_size filter finally flow_run_id folder follows
for_each format frames function generation given_back gpu_access guards handler handlers headers headings
heartbeat held_by hostname idempotency_key idempotent identity idle_timeout in_doubt inactive indent
input_schema input_tokens inputs insight inspiration instruction integer intended interrupted interval
intervene invalid is_error iteration jitter json_schema jsonlib key_points killed kwargs labels last_seq
latest learning lease_epoch lease_owner lease_until license lifetime limit_us limits linear local_admin
location log_level made_by maintenance manifest markdown matched max_allocation max_concurrent max_delay
max_duration max_replicas max_retries max_tokens max_turns maximum maxItems maxLength mcpServers measure
media_type medium member memory mentionable message messages metadata method methods metrics_enabled
min_replicas minimum minItems minLength minute missed missing model_context_window_exceeded models
monitoring multipleOf nested network_access not_compared not_done not_started not_taken_back not_visited
nothing nothing_done number object occurrence offline offset on_failure on_timeout open_files optional
options ordinal orphaned outcome outline output output_config output_tokens outputs overloaded_error params
parent_run_id park_reason parked_until partial_json passage patience pattern patternProperties pause_turn
payload pending people per_item permissions persistent phaseline phases placement places plan_digest points
postgres postgresql prefect prefect_version prefixItems preview previous prices_as_of priority private
problems process processes profile project prompt prompts properties propertyNames provider public question
quorum raised_us rate_limit rate_limit_error rate_limits read_timeout readOnly reason records
redacted_thinking refusal refused registry reject rejected release remind_at reminded reminders repair
repeat repetition replace replicas reports request_digest request_id requests requests_per_minute required
requires reservation reservation_id reserved resource_requirements resources response_time_p99 result resume
retries retry_policy retrying reused reused_from review robot-delivery robot-goals robot-host
robot-inspiration robot-learning robot-tasks robot-validation root_run_id routing_rules run_id run_once
running schema schema_version scheme second seconds seconds_with_retries secret seen_time serializer server
servers session settled severity sha256 signal signature signature_delta since_boot skill_id skills skipped
source speaker spent_us sqlite standard started stated status statuses step_path stop_reason stop_sequence
stop_sequences stopped storage storage_block_id storage_key streamable-http string subject summary
supervisor_pid synthesis system target_cpu_utilization target_memory_utilization targets temperature
template tenant text_delta thinking thinking_delta threshold throughput time_budget timed_out timeout
timeout_error timeout_seconds timezone tokens tokens_limit tokens_per_day tokens_per_minute tokens_raised
tokens_reserved tokens_spent tool_choice tool_result tool_rules tool_use tool_use_id total_timeout
tracing_enabled triggers trouble trust_annotations turns_limit turns_raised turns_reserved turns_spent
ui_url unasked undone unevaluatedProperties uniqueItems unknown unmeasured unpriced unpriced_requests
updated usd_limit usd_raised usd_reserved usd_spent validation values version versions visibility voices
wait_id wait_key waiting wake_at wake_reason warning WARNING warnings webhook workflow writeOnly
"""

OWN_WORDS = frozenset(_WORDS.split())
"""As they are written, capitals included."""
