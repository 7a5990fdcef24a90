  -- Reset stuck runs (>30 min in 'claimed')
  UPDATE ops.runs
  SET status = 'queued', claimed_by = NULL
  WHERE status = 'claimed'
    AND started_at < NOW() - INTERVAL '30 minutes';
