//! `/v2/account`, `/v2/account/keys`, `/v2/sizes` and `/v2/regions`.

use super::answer::{Answer, Outcome};
use super::api::Api;
use super::catalog::{Catalog, REGIONS};
use serde_json::{Value, json};

/// The account's only key.
pub const KEY_ID: u64 = 512_190;
pub const KEY_FINGERPRINT: &str = "3b:16:bf:e4:8b:00:8b:b8:59:8c:a9:d3:f0:19:45:fa";
/// The seconds a burst limit asks to wait.
const KEY_RETRY_AFTER: u64 = 60;

impl Api<'_> {
    pub fn get_account(&mut self) -> Outcome {
        self.need("account:read")?;
        let mut account = json!({
            "droplet_limit": self.options.droplet_limit, "floating_ip_limit": 3, "reserved_ip_limit": 3,
            "volume_limit": 100, "email": "sandbox@example.com", "name": "Sandbox",
            "uuid": "b6fc48dbf6d9906cace5f3c78dc9851e757381ef", "email_verified": true,
            "status": "active", "status_message": "",
            "team": {"uuid": "5df3e3004a17e242b7c20ca6c9fc25b701a47ece", "name": "My Team"},
        });
        // What the token may not read is left out, not refused.
        if self.lacks("droplet:read")
            && let Some(fields) = account.as_object_mut()
        {
            fields.remove("droplet_limit");
        }
        Ok(Answer::ok(json!({"account": account})))
    }

    pub fn list_keys(&mut self) -> Outcome {
        self.need("ssh_key:read")?;
        if !self.journal.may_list_keys(self.now) {
            return Err(Answer::too_many_requests(KEY_RETRY_AFTER));
        }
        let key = json!({
            "id": KEY_ID, "fingerprint": KEY_FINGERPRINT, "name": "sandbox",
            "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLE sandbox",
        });
        Ok(self.page()?.answer("ssh_keys", vec![key]))
    }

    pub fn list_sizes(&mut self) -> Outcome {
        self.need("sizes:read")?;
        let sizes = self.catalog.sizes.iter().map(Catalog::size_json).collect();
        Ok(self.page()?.answer("sizes", sizes))
    }

    pub fn list_regions(&mut self) -> Outcome {
        self.need("regions:read")?;
        let with_sizes = !self.lacks("sizes:read");
        let regions: Vec<Value> = REGIONS.iter().map(|r| self.catalog.region_json(r, with_sizes)).collect();
        Ok(self.page()?.answer("regions", regions))
    }
}
