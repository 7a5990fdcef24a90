-- Trigger runner when run status changes to 'queued'
CREATE OR REPLACE FUNCTION ops.trigger_runner()
RETURNS TRIGGER AS $$
BEGIN
  IF NEW.status = 'queued' THEN
    PERFORM net.http_post(
      url := 'https://spdtwktxdalcfigzeqrz.supabase.co/functions/v1/ops-runner',
      headers := '{"Authorization": "Bearer ' || current_setting('app.supabase_anon_key') || '"}'::jsonb
    );
  END IF;
  RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER runs_trigger_runner
  AFTER INSERT OR UPDATE ON ops.runs
  FOR EACH ROW
  EXECUTE FUNCTION ops.trigger_runner();
