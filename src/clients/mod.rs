//! Transport only: authentication, timeouts, rate limits, the providers' own types and errors.
//!
//! Reading and writing are different types: what plans holds [`Readers`] and so cannot write.
//! Nothing here decides; nothing here retries a call that may have created something.

pub mod budget;
pub mod check;
pub mod digitalocean;
pub mod error;
pub mod fence;
pub mod github;
pub mod http;
pub mod machine;
pub mod postgres;
pub mod railway;
pub mod remedy;
mod retry;
pub mod seam;
pub mod trigger;

pub use error::ClientError;
pub use fence::Fence;
pub use seam::Seam;

use crate::config::Config;
use std::sync::Arc;

/// All that a cycle may look with.
#[derive(Clone)]
pub struct Readers {
    pub railway: railway::Reader,
    pub digitalocean: digitalocean::Reader,
    pub postgres: postgres::Reader,
    pub trigger: trigger::Trigger,
    /// What an error of these means for the variables.
    pub remedies: remedy::Remedies,
    budgets: Budgets,
}

/// All that an action may change the world with. Each also looks, right before it acts; none of
/// them writes past its fence.
#[derive(Clone)]
pub struct Writers {
    pub railway: railway::Writer,
    pub digitalocean: digitalocean::Writer,
    pub postgres: postgres::Writer,
    pub remedies: remedy::Remedies,
}

impl Readers {
    pub fn new(config: &Config, seam: &Seam) -> Result<Readers, ClientError> {
        Readers::with_budgets(config, seam, Budgets::default())
    }

    /// For a new configuration: what was spent, and pauses that were asked for, stay.
    pub fn reconfigured(&self, config: &Config, seam: &Seam) -> Result<Readers, ClientError> {
        Readers::with_budgets(config, seam, self.budgets.clone())
    }

    fn with_budgets(config: &Config, seam: &Seam, budgets: Budgets) -> Result<Readers, ClientError> {
        Ok(Readers {
            railway: railway::Reader::new(config, seam, budgets.railway.clone())?,
            digitalocean: digitalocean::Reader::new(config, seam, budgets.digitalocean.clone())?,
            postgres: postgres::Reader::new(config, seam)?,
            trigger: trigger::Trigger::new(seam)?,
            remedies: remedy::Remedies::new(config),
            budgets,
        })
    }

    /// The writing half; it shares connections and budgets with the reading half.
    pub fn writers(&self, fence: &Fence) -> Writers {
        Writers {
            railway: railway::Writer::new(self.railway.clone(), fence),
            digitalocean: digitalocean::Writer::new(self.digitalocean.clone(), fence),
            postgres: postgres::Writer::new(self.postgres.clone(), fence),
            remedies: self.remedies.clone(),
        }
    }
}

#[derive(Clone, Default)]
struct Budgets {
    railway: Arc<budget::Budget>,
    digitalocean: Arc<budget::Budget>,
}
