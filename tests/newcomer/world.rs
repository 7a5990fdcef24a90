//! A booted webapp with nothing of ours yet, mistakes, and the line that must answer each.

use crate::binary::{Ended, Environment};
use ops_controller::sandbox::digitalocean::{DigitalOcean, DigitalOceanOptions};
use ops_controller::sandbox::faults::Faults;
use ops_controller::sandbox::{Options, Sandbox};

/// An id that nothing has.
pub const NOBODY: &str = "11111111-1111-4111-8111-111111111111";

pub struct World {
    pub sandbox: Sandbox,
    pub env: Environment,
}

impl World {
    pub async fn start() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Sandbox::start(Options::short_delays()).await.expect("a sandbox");
        sandbox.webapp.ready().await.expect("a booted webapp");
        let env = Environment::new(sandbox.environment());
        World { sandbox, env }
    }

    pub fn with(&self, name: &str, value: impl Into<String>) -> Environment {
        self.env.clone().with(name, value)
    }

    pub async fn sql(&self, statements: &str) {
        let mut connection = self.sandbox.postgres.connect().await.expect("a connection");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.expect("done");
    }

    /// No secret may ever be printed, whatever is wrong.
    pub fn assert_silent(&self, ended: &Ended) {
        let secrets = [
            self.env.get("DIGITALOCEAN_TOKEN").to_owned(),
            self.env.get("RAILWAY_API_TOKEN").to_owned(),
            self.sandbox.postgres.password().to_owned(),
            self.sandbox.webapp.token(),
            self.sandbox.webapp.managed_secret(),
            "canary".to_owned(),
        ];
        for secret in secrets {
            assert!(!ended.all().contains(&secret), "`{}` printed a secret:\n{}", ended.command, ended.all());
        }
    }
}

/// Another DigitalOcean account.
pub async fn account(change: impl FnOnce(&mut DigitalOceanOptions)) -> DigitalOcean {
    let mut options = DigitalOceanOptions::default();
    change(&mut options);
    DigitalOcean::start(options, Faults::default()).await.expect("a simulator")
}

/// One mistake, and what its line must say.
pub struct Mistake {
    pub env: Environment,
    /// What the line is about: a variable, mostly.
    pub name: &'static str,
    /// What was found, and what to do about it.
    pub words: &'static [&'static str],
    /// `doctor` alone can see it, or alone names it before it does harm.
    pub only_doctor: bool,
}

impl Mistake {
    pub fn new(env: Environment, name: &'static str, words: &'static [&'static str]) -> Mistake {
        Mistake { env, name, words, only_doctor: false }
    }

    pub fn for_doctor(mut self) -> Mistake {
        self.only_doctor = true;
        self
    }

    /// Exactly one finding is bad, and it is about the name.
    #[track_caller]
    pub fn assert_told_by_doctor(&self, ended: &Ended) {
        let bad: Vec<&str> = ended.out.lines().filter(|l| l.starts_with("BAD")).collect();
        assert_eq!(bad.len(), 1, "{}: one thing is wrong, so one line says so:\n{}", self.name, ended.all());
        assert!(bad[0].starts_with(&format!("BAD {}: ", self.name)), "{} is to be named: {}", self.name, bad[0]);
        self.assert_helps(bad[0]);
        assert!(ended.out.lines().last().is_some_and(|l| l.starts_with("1 of ")), "{}", ended.out);
        assert_eq!(ended.err, "", "and nothing says it again");
    }

    /// Of all causes that are printed, one line names it, and that line helps. `plan` lists first what
    /// it would do and what holds that back; its causes come behind a blank line.
    #[track_caller]
    pub fn assert_told_once(&self, ended: &Ended) {
        let causes = ended.out.rsplit_once("\n\n").map_or(ended.out.as_str(), |(_, causes)| causes);
        let text = format!("{causes}{}", ended.err);
        let about: Vec<&str> = text.lines().filter(|l| l.contains(self.words[0])).collect();
        assert_eq!(about.len(), 1, "`{}` is to name {} once:\n{text}", ended.command, self.name);
        assert!(about[0].contains(self.name), "{} is to be named: {}", self.name, about[0]);
        self.assert_helps(about[0]);
    }

    #[track_caller]
    fn assert_helps(&self, line: &str) {
        for word in self.words {
            assert!(line.contains(word), "{}: {word:?} is not in: {line}", self.name);
        }
    }
}
