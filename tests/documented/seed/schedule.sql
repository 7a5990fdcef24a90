-- Create scheduled job (runs every minute)
SELECT cron.schedule(
  'ops-runner-scheduler',
  '* * * * *',
  $$
    SELECT net.http_post(
      url := 'https://spdtwktxdalcfigzeqrz.supabase.co/functions/v1/ops-runner',
      headers := '{"Authorization": "Bearer ' || current_setting('app.supabase_anon_key') || '"}'::jsonb
    );
  $$
);
