//! DigitalOcean's REST API: about a dozen calls on droplets, firewalls, sizes and the account.
//!
//! Creating is sent once and never repeated here: there is no idempotency key, and a lost answer is
//! resolved by looking (rule 4).

mod wire;

use super::budget::{Budget, Remaining};
use super::error::ClientError;
use super::fence::Fence;
use super::http::{Answer, Http};
use super::retry;
use super::seam::Seam;
use crate::config::Config;
use crate::plan::action::{DropletSpec, FirewallSpec};
use crate::plan::observation::{Account, Droplet, Firewall, Size};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PROVIDER: &str = "DigitalOcean";
/// A create may take long to be answered, and giving up early only costs a look.
const TIMEOUT: Duration = Duration::from_secs(30);
const PER_PAGE: usize = 200;
const MAX_PAGES: usize = 25;

#[derive(Clone)]
pub struct Reader {
    http: Http,
    base: String,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer {
    /// Its calls are fenced, so none of the writes below can forget to be.
    reader: Reader,
    look: Reader,
}

/// An accepted create: the droplet's id and the provider's request id.
pub struct Created {
    pub id: u64,
    pub request_id: Option<String>,
}

impl Reader {
    pub fn new(config: &Config, seam: &Seam, budget: Arc<Budget>) -> Result<Reader, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &config.digitalocean_token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| ClientError::Unauthorized {
                    provider: PROVIDER,
                    message: "the token holds characters that no header can carry".into(),
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let local = crate::config::is_loopback_url(&config.digitalocean_api_url);
        Ok(Reader {
            http: Http::new(PROVIDER, TIMEOUT, headers, seam, budget, local)?,
            base: format!("{}/v2", config.digitalocean_api_url.trim_end_matches('/')),
        })
    }

    pub fn budget(&self) -> Remaining {
        self.http.budget().show()
    }

    pub async fn droplets_by_tag(&self, tag: &str) -> Result<Vec<Droplet>, ClientError> {
        self.droplets("list droplets by tag", &[("tag_name", tag)]).await
    }

    pub async fn droplets_by_name(&self, name: &str) -> Result<Vec<Droplet>, ClientError> {
        self.droplets("list droplets by name", &[("name", name)]).await
    }

    /// `None` when it does not exist, or does not yet: right after a create, 404 proves nothing.
    pub async fn droplet(&self, id: u64) -> Result<Option<Droplet>, ClientError> {
        match self.get::<wire::OneDroplet>("read droplet", &format!("droplets/{id}"), &[]).await {
            Ok(answer) => Ok(Some(answer.droplet.convert())),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn droplets(&self, what: &str, query: &[(&str, &str)]) -> Result<Vec<Droplet>, ClientError> {
        let pages: Vec<wire::Droplets> = self.pages(what, "droplets", query).await?;
        let mut all: Vec<Droplet> = pages.into_iter().flat_map(|p| p.droplets).map(wire::Droplet::convert).collect();
        // A droplet made between two pages may be listed twice.
        all.sort_by_key(|d| d.id);
        all.dedup_by_key(|d| d.id);
        Ok(all)
    }

    /// All droplets of the account, whoever made them: that is what its limit counts.
    pub async fn droplet_count(&self) -> Result<u64, ClientError> {
        let answer: wire::Count = self.get("count droplets", "droplets", &[("per_page", "1")]).await?;
        Ok(answer.meta.total)
    }

    /// The firewall with this name, which is unique in an account.
    pub async fn firewall(&self, name: &str) -> Result<Option<Firewall>, ClientError> {
        let pages: Vec<wire::Firewalls> = self.pages("list firewalls", "firewalls", &[]).await?;
        Ok(pages.into_iter().flat_map(|p| p.firewalls).find(|f| f.name == name).map(wire::Firewall::convert))
    }

    /// How many things carry the tag, by the tag's own word; `None` when it does not exist.
    pub async fn tagged(&self, tag: &str) -> Result<Option<u64>, ClientError> {
        match self.get::<wire::OneTag>("read tag", &format!("tags/{tag}"), &[]).await {
            Ok(answer) => Ok(Some(answer.tag.resources.count)),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn sizes(&self) -> Result<Vec<Size>, ClientError> {
        let pages: Vec<wire::Sizes> = self.pages("list sizes", "sizes", &[]).await?;
        Ok(pages.into_iter().flat_map(|p| p.sizes).map(wire::Size::convert).collect())
    }

    pub async fn account(&self) -> Result<Account, ClientError> {
        let answer: wire::OneAccount = self.get("read account", "account", &[]).await?;
        Ok(answer.account.convert())
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, path: &str, query: &[(&str, &str)]) -> Result<T, ClientError> {
        let answer = retry::read(|| {
            let request = self.http.client().get(format!("{}/{path}", self.base)).query(query);
            self.http.send(what, request)
        })
        .await?;
        parse(what, &answer)
    }

    async fn pages<T: DeserializeOwned + wire::Page>(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ClientError> {
        let per_page = PER_PAGE.to_string();
        let mut pages: Vec<T> = Vec::new();
        for number in 1..=MAX_PAGES {
            let number = number.to_string();
            let mut query = query.to_vec();
            query.extend([("page", number.as_str()), ("per_page", per_page.as_str())]);
            let page: T = self.get(what, path, &query).await?;
            let more = page.has_next();
            pages.push(page);
            if !more {
                return Ok(pages);
            }
        }
        // A list that was not read to its end must not look complete.
        Err(ClientError::NoAnswer { provider: PROVIDER, message: format!("{what}: more than {MAX_PAGES} pages") })
    }
}

impl Writer {
    pub fn new(look: Reader, fence: &Fence) -> Writer {
        Writer { reader: Reader { http: look.http.fenced(fence), base: look.base.clone() }, look }
    }

    /// The look before an act.
    pub fn look(&self) -> &Reader {
        &self.look
    }

    /// Sent once. An error that is not definite leaves the outcome open.
    pub async fn create_droplet(
        &self,
        name: &str,
        spec: &DropletSpec,
        user_data: &str,
    ) -> Result<Created, ClientError> {
        let what = "create droplet";
        let keys: Vec<Value> =
            spec.ssh_keys.iter().map(|k| k.parse::<u64>().map_or_else(|_| json!(k), |id| json!(id))).collect();
        let body = json!({
            "name": name,
            "region": spec.region,
            "size": spec.size,
            "image": spec.image,
            "ssh_keys": keys,
            "tags": spec.tags(),
            "user_data": user_data,
            "monitoring": true,
        });
        let answer = self.post(what, "droplets", &body).await?;
        let created: wire::Accepted = parse(what, &answer)?;
        Ok(Created { id: created.droplet.id, request_id: answer.request_id })
    }

    /// Deleting what is gone is done.
    pub async fn delete_droplet(&self, id: u64) -> Result<Option<String>, ClientError> {
        let request = self.reader.http.client().delete(format!("{}/droplets/{id}", self.reader.base));
        match self.reader.http.send("delete droplet", request).await {
            Ok(answer) => Ok(answer.request_id),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `reboot`, or `power_on` for one that is off.
    pub async fn droplet_action(&self, id: u64, kind: &str) -> Result<Option<String>, ClientError> {
        let answer = self.post("droplet action", &format!("droplets/{id}/actions"), &json!({ "type": kind })).await?;
        Ok(answer.request_id)
    }

    /// A firewall can only name tags that exist; making one that exists is no error.
    pub async fn create_tag(&self, name: &str) -> Result<(), ClientError> {
        self.post("create tag", "tags", &json!({ "name": name })).await.map(|_| ())
    }

    pub async fn create_firewall(&self, spec: &FirewallSpec) -> Result<Option<String>, ClientError> {
        let answer = self.post("create firewall", "firewalls", &wire::firewall_body(spec)).await?;
        Ok(answer.request_id)
    }

    /// Replaces the whole firewall.
    pub async fn update_firewall(&self, id: &str, spec: &FirewallSpec) -> Result<Option<String>, ClientError> {
        let url = format!("{}/firewalls/{id}", self.reader.base);
        let request = self.reader.http.client().put(url).json(&wire::firewall_body(spec));
        Ok(self.reader.http.send("update firewall", request).await?.request_id)
    }

    pub async fn delete_firewall(&self, id: &str) -> Result<(), ClientError> {
        let request = self.reader.http.client().delete(format!("{}/firewalls/{id}", self.reader.base));
        match self.reader.http.send("delete firewall", request).await {
            Ok(_) | Err(ClientError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn delete_tag(&self, name: &str) -> Result<(), ClientError> {
        let request = self.reader.http.client().delete(format!("{}/tags/{name}", self.reader.base));
        match self.reader.http.send("delete tag", request).await {
            Ok(_) | Err(ClientError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn post(&self, what: &str, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let request = self.reader.http.client().post(format!("{}/{path}", self.reader.base)).json(body);
        self.reader.http.send(what, request).await
    }
}

fn parse<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|e| ClientError::NoAnswer {
        provider: PROVIDER,
        message: format!(
            "{what}: {} with an unexpected body (line {} column {})",
            answer.status.as_u16(),
            e.line(),
            e.column()
        ),
    })
}
