"""Events pushed to other people's servers, signed as Standard Webhooks has it."""
