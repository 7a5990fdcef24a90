//! Which size may be bought: sold at all, in the region, within the price limit; else what is.
//!
//! Prices come from the API at run time. The guard of a create and `doctor` say the same sentence.

use super::desired::Desired;
use super::observation::{Observation, Size};

/// Offers named in a message; the whole list has more than a hundred.
const OFFERS: usize = 5;

/// The variable that stands in the way, and why, with what would do.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsold {
    pub variable: &'static str,
    pub why: String,
}

/// The price of the desired supervisor in USD a month.
pub fn affordable(desired: &Desired, sizes: &[Size]) -> Result<f64, Unsold> {
    let Desired { size: slug, region, limits, .. } = desired;
    let no = |variable, why| Err(Unsold { variable, why });
    let size = match sizes.iter().find(|s| s.slug == *slug) {
        Some(size) if size.available => size,
        Some(_) => return no("SUPERVISOR_SIZE", format!("{slug} is not sold at present; {}", offers(desired, sizes))),
        None => return no("SUPERVISOR_SIZE", format!("DigitalOcean sells no size {slug}; {}", offers(desired, sizes))),
    };
    if !size.regions.contains(region) {
        if !sizes.iter().any(|s| s.regions.contains(region)) {
            let why =
                format!("nothing is sold in {region}; {slug} is sold in: {}; choose one", size.regions.join(", "));
            return no("SUPERVISOR_REGION", why);
        }
        let why = format!(
            "{slug} is not sold in {region}; it is in: {}; set SUPERVISOR_REGION to one of them, or another \
             SUPERVISOR_SIZE ({})",
            size.regions.join(", "),
            offers(desired, sizes)
        );
        return no("SUPERVISOR_REGION", why);
    }
    if size.price_monthly > limits.max_monthly_usd {
        let why = format!(
            "{slug} costs {} USD a month, the limit is {}: raise it, or set another SUPERVISOR_SIZE ({})",
            size.price_monthly,
            limits.max_monthly_usd,
            offers(desired, sizes)
        );
        return no("MAX_MONTHLY_USD", why);
    }
    Ok(size.price_monthly)
}

/// The cheapest sizes that would do: in the region, and within the price limit.
fn offers(desired: &Desired, sizes: &[Size]) -> String {
    let (region, most) = (&desired.region, desired.limits.max_monthly_usd);
    let fits = |s: &&Size| s.available && s.regions.contains(region) && s.price_monthly <= most;
    let mut fitting: Vec<_> = sizes.iter().filter(fits).collect();
    fitting.sort_by(|a, b| a.price_monthly.total_cmp(&b.price_monthly));
    let named: Vec<_> = fitting.iter().take(OFFERS).map(|s| format!("{} for {}", s.slug, s.price_monthly)).collect();
    match named.is_empty() {
        true => format!("in {region} none costs at most {most} USD a month"),
        false => format!("in {region} there are {} USD a month", named.join(", ")),
    }
}

pub fn price(seen: &Observation, slug: &str) -> Option<f64> {
    seen.sizes.known()?.iter().find(|s| s.slug == slug).map(|s| s.price_monthly)
}
