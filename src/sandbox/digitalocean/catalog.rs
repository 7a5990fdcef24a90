//! What the provider sells: sizes, regions and images, as many as in reality.
//!
//! There are well over a hundred sizes, so a client that reads only the first page misses the one
//! it wants. The prices of the small sizes are the real ones; the others only have to be plausible.

use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub struct Size {
    pub slug: String,
    pub vcpus: u32,
    pub memory_mb: u32,
    pub disk_gb: u32,
    pub transfer_tb: f64,
    pub price_monthly: f64,
    pub description: &'static str,
    pub regions: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub struct Region {
    pub slug: &'static str,
    pub name: &'static str,
    pub available: bool,
}

const fn region(slug: &'static str, name: &'static str) -> Region {
    Region { slug, name, available: true }
}

pub const REGIONS: [Region; 13] = [
    region("nyc1", "New York 1"),
    Region { slug: "nyc2", name: "New York 2", available: false },
    region("nyc3", "New York 3"),
    region("sfo2", "San Francisco 2"),
    region("sfo3", "San Francisco 3"),
    region("ams3", "Amsterdam 3"),
    region("sgp1", "Singapore 1"),
    region("lon1", "London 1"),
    region("fra1", "Frankfurt 1"),
    region("tor1", "Toronto 1"),
    region("blr1", "Bangalore 1"),
    region("syd1", "Sydney 1"),
    region(NEWEST_REGION, "Atlanta 1"),
];

const NEWEST_REGION: &str = "atl1";

/// Where the larger plans are sold; everything small is sold everywhere.
const LARGE_ONLY_IN: [&str; 4] = ["nyc1", "nyc3", "ams3", "fra1"];
const LARGE_FROM_VCPUS: u32 = 16;

/// id, slug, name, distribution
pub const IMAGES: [(u64, &str, &str, &str); 5] = [
    (155_133_621, "ubuntu-24-04-x64", "24.04 (LTS) x64", "Ubuntu"),
    (112_929_454, "ubuntu-22-04-x64", "22.04 (LTS) x64", "Ubuntu"),
    (133_686_045, "docker-20-04", "Docker on Ubuntu 22.04", "Ubuntu"),
    (137_900_712, "debian-12-x64", "12 x64", "Debian"),
    (162_412_086, "fedora-41-x64", "41 x64", "Fedora"),
];

/// slug, vcpus, memory in MB, disk in GB, transfer in TB, USD a month
const BASIC: [(&str, u32, u32, u32, f64, f64); 9] = [
    ("s-1vcpu-512mb-10gb", 1, 512, 10, 0.5, 4.0),
    ("s-1vcpu-1gb", 1, 1024, 25, 1.0, 6.0),
    ("s-1vcpu-2gb", 1, 2048, 50, 2.0, 12.0),
    ("s-2vcpu-2gb", 2, 2048, 60, 3.0, 18.0),
    ("s-2vcpu-4gb", 2, 4096, 80, 4.0, 24.0),
    ("s-4vcpu-8gb", 4, 8192, 160, 5.0, 48.0),
    ("s-8vcpu-16gb", 8, 16384, 320, 6.0, 96.0),
    ("s-16vcpu-32gb", 16, 32768, 640, 7.0, 192.0),
    ("s-24vcpu-64gb", 24, 65536, 1280, 8.0, 384.0),
];

/// slug prefix, suffix, GB of memory and of disk per vCPU, USD per vCPU and month
const FAMILIES: [(&str, &str, u32, u32, f64, &str); 16] = [
    ("s", "-amd", 2, 25, 14.0, "Premium AMD"),
    ("s", "-intel", 2, 25, 14.0, "Premium Intel"),
    ("s", "-120gb-intel", 4, 30, 16.0, "Premium Intel"),
    ("c", "", 2, 25, 21.0, "CPU-Optimized"),
    ("c2", "", 2, 50, 23.5, "CPU-Optimized 2x SSD"),
    ("c", "-intel", 2, 25, 27.25, "Premium Intel CPU-Optimized"),
    ("g", "", 4, 13, 31.5, "General Purpose"),
    ("gd", "", 4, 25, 34.0, "General Purpose 2x SSD"),
    ("g", "-intel", 4, 13, 37.75, "General Purpose Premium Intel"),
    ("gd", "-intel", 4, 25, 39.5, "General Purpose 2x SSD Premium Intel"),
    ("m", "", 8, 25, 42.0, "Memory-Optimized"),
    ("m3", "", 8, 75, 52.0, "Memory-Optimized 3x SSD"),
    ("m6", "", 8, 150, 65.5, "Memory-Optimized 6x SSD"),
    ("m", "-intel", 8, 25, 49.5, "Premium Memory-Optimized"),
    ("so", "", 8, 150, 65.5, "Storage-Optimized"),
    ("so1_5", "", 8, 225, 81.5, "Storage-Optimized 1.5x SSD"),
];
const FAMILY_VCPUS: [u32; 8] = [1, 2, 4, 8, 16, 24, 32, 48];

pub struct Catalog {
    pub sizes: Vec<Size>,
}

impl Catalog {
    pub fn new() -> Self {
        let basic = BASIC.into_iter().map(|(slug, vcpus, memory_mb, disk_gb, transfer_tb, price)| Size {
            slug: slug.to_owned(),
            vcpus,
            memory_mb,
            disk_gb,
            transfer_tb,
            price_monthly: price,
            description: "Basic",
            regions: regions_for(vcpus),
        });
        let families = FAMILIES.into_iter().flat_map(|family| {
            FAMILY_VCPUS.into_iter().map(move |vcpus| {
                let (prefix, suffix, memory_gb, disk_gb, price, description) = family;
                Size {
                    slug: format!("{prefix}-{vcpus}vcpu-{}gb{suffix}", memory_gb * vcpus),
                    vcpus,
                    memory_mb: memory_gb * vcpus * 1024,
                    disk_gb: disk_gb * vcpus,
                    transfer_tb: 4.0 + f64::from(vcpus) / 8.0,
                    price_monthly: price * f64::from(vcpus),
                    description,
                    regions: regions_for(vcpus),
                }
            })
        });
        Self { sizes: basic.chain(families).collect() }
    }

    pub fn size(&self, slug: &str) -> Option<&Size> {
        self.sizes.iter().find(|s| s.slug == slug)
    }

    pub fn size_json(size: &Size) -> Value {
        json!({
            "slug": size.slug, "memory": size.memory_mb, "vcpus": size.vcpus, "disk": size.disk_gb,
            "transfer": size.transfer_tb, "price_monthly": size.price_monthly,
            // The provider rounds the hour's price to five places; a month has 672 billed hours.
            "price_hourly": (size.price_monthly / 672.0 * 100_000.0).round() / 100_000.0,
            "regions": size.regions, "available": true, "description": size.description,
            "disk_info": [disk_info(size.disk_gb)],
        })
    }

    pub fn region_json(&self, region: &Region, with_sizes: bool) -> Value {
        let mut sizes: Vec<&str> = Vec::new();
        if with_sizes {
            let sold_here = self.sizes.iter().filter(|s| s.regions.contains(&region.slug));
            sizes.extend(sold_here.map(|s| s.slug.as_str()));
        }
        json!({
            "name": region.name, "slug": region.slug, "available": region.available, "sizes": sizes,
            "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        })
    }
}

pub fn disk_info(disk_gb: u32) -> Value {
    json!({"type": "local", "size": {"amount": disk_gb, "unit": "gib"}})
}

pub fn region_named(slug: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|r| r.slug == slug)
}

/// The image a create request means: a slug or a number.
pub fn image_named(image: &Value) -> Option<&'static str> {
    IMAGES
        .iter()
        .find(|(id, slug, ..)| image.as_str() == Some(slug) || image.as_u64() == Some(*id))
        .map(|(_, slug, ..)| *slug)
}

pub fn image_json(slug: &str) -> Value {
    let Some((id, slug, name, distribution)) = IMAGES.iter().find(|i| i.1 == slug) else {
        return Value::Null;
    };
    // The newest region is in no image's list yet, nor in the schema's list of them.
    let known = REGIONS.iter().map(|r| r.slug).filter(|r| *r != NEWEST_REGION);
    let regions: Vec<_> = known.collect();
    json!({
        "id": id, "slug": slug, "name": name, "distribution": distribution, "public": true,
        "type": "base", "regions": regions, "created_at": "2026-05-15T05:47:50Z",
        "min_disk_size": 7, "size_gigabytes": 2.36, "description": format!("{distribution} {name}"),
        "tags": [], "status": "available", "error_message": "",
    })
}

fn regions_for(vcpus: u32) -> Vec<&'static str> {
    REGIONS
        .iter()
        .filter(|r| r.available && (vcpus < LARGE_FROM_VCPUS || LARGE_ONLY_IN.contains(&r.slug)))
        .map(|r| r.slug)
        .collect()
}
