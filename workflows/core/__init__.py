"""The language: models, loader, compiler, plan. No network, no clock, no environment, no Prefect."""
