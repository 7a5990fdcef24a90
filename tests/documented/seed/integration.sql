-- Queue test run
SELECT ops.queue_run(
  p_project_id := 'test-project',
  p_env := 'dev',
  p_git_sha := 'abc123def456',
  p_git_ref := 'refs/heads/feature/test'
);

-- Invoke runner
-- (via HTTP POST or trigger)

-- Verify run completed
SELECT run_id, status, finished_at
FROM ops.runs
WHERE project_id = 'test-project'
ORDER BY queued_at DESC
LIMIT 1;

-- Verify events logged
SELECT level, message
FROM ops.run_events
WHERE run_id = (
  SELECT run_id FROM ops.runs
  WHERE project_id = 'test-project'
  ORDER BY queued_at DESC
  LIMIT 1
);
