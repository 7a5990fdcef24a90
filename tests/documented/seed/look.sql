-- View events for specific run
SELECT created_at, level, message, payload
FROM ops.run_events
WHERE run_id = 'run-abc123'
ORDER BY created_at DESC;

-- View recent runs
SELECT run_id, status, started_at, finished_at
FROM ops.runs
ORDER BY queued_at DESC
LIMIT 10;
