"""Stage-B: from the canonical JSONL to an adapter that gives verdicts on groups, trained by GRPO."""
