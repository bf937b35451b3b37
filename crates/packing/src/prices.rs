//! What machines cost.

use crate::models::Models;
use crate::node::Capacity;
use crate::request::MAX_GPUS;
use crate::trace::{Table, TraceError};

/// A kind of machine that can be rented.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// `aws`, `gcp`, …
    pub cloud: String,
    /// `us-east-1`, …
    pub region: String,
    /// `p4d.24xlarge`, `n1-standard-8+1xT4`, …
    pub name: String,
    /// Name of its GPUs' model.
    pub gpu: String,
    /// What it has.
    pub capacity: Capacity,
    /// Dollars an hour.
    pub on_demand: f64,
    /// Dollars an hour; `None` where there is no such offer.
    pub spot: Option<f64>,
}

/// Reads a list of prices: CSV with lines of comments, as `data/gpu-prices.csv`.
pub fn read_prices(
    file: &str,
    text: &[u8],
    models: &mut Models,
) -> Result<Vec<Instance>, TraceError> {
    const COLUMNS: [&str; 9] =
        ["cloud", "region", "instance", "gpu", "gpus", "vcpus", "memory_gib", "on_demand", "spot"];
    let mut table = Table::open(file, text, &COLUMNS, &[])?;
    let mut instances = Vec::new();
    while table.next()? {
        let gpus = table.number("gpus", 0..=MAX_GPUS as u64)?;
        let model = match table.text("gpu") {
            "" => None,
            name => Some(models.model(name).map_err(|error| table.field("gpu", error))?),
        };
        let thousands = |amount: u64, by: u32| u32::try_from(amount).map_or(u32::MAX, |it| it * by);
        let capacity = Capacity {
            cpu_milli: thousands(table.number("vcpus", 1..=100_000)?, 1000),
            memory_mib: thousands(table.number("memory_gib", 1..=1_000_000)?, 1024),
            gpus: u8::try_from(gpus).expect("at most MAX_GPUS"),
            model: model.filter(|_| gpus > 0),
        };
        let on_demand = table.price("on_demand")?;
        instances.push(Instance {
            cloud: table.text("cloud").to_owned(),
            region: table.text("region").to_owned(),
            name: table.text("instance").to_owned(),
            gpu: table.text("gpu").to_owned(),
            capacity,
            on_demand: on_demand
                .ok_or_else(|| table.field("on_demand", "a price in dollars an hour"))?,
            spot: table.price("spot")?,
        });
    }
    Ok(instances)
}

#[test]
fn the_shipped_list_is_right() {
    let text = include_bytes!("../../../data/gpu-prices.csv");
    let mut models = Models::default();
    let instances = read_prices("gpu-prices.csv", text, &mut models).expect("right");
    assert!(instances.len() > 30);
    for it in &instances {
        assert!(it.capacity.gpus > 0 && it.spot.is_some_and(|spot| spot < it.on_demand), "{it:?}");
    }
    // Google's list prices of machines with their GPUs, which the source has in two rows.
    for (name, dollars) in [
        ("a2-highgpu-1g", 3.673),
        ("g2-standard-4", 0.707),
        ("n1-standard-8+1xT4", 0.73),
        ("a2-megagpu-16g", 55.74),
    ] {
        let it = instances.iter().find(|it| it.region == "us-central1" && it.name == name);
        let price = it.expect("listed").on_demand;
        assert!((price - dollars).abs() < 0.001, "{name}: {price}");
    }
    let mut names: Vec<_> = instances.iter().map(|it| (&it.region, &it.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), instances.len(), "a machine is listed twice in a region");
    let header = "cloud,region,instance,gpu,gpus,vcpus,memory_gib,on_demand,spot\n";
    let error = |row: &str| {
        let text = format!("{header}{row}");
        read_prices("p.csv", text.as_bytes(), &mut Models::default())
            .expect_err("wrong")
            .to_string()
    };
    assert_eq!(
        error("a,b,c,T4,1,8,32,free,1\n"),
        "p.csv:2: column `on_demand` is `free`, not a price in dollars an hour"
    );
    assert!(error("a,b,c,T4,1,8,32,,1\n").contains("`on_demand`"));
    assert!(error("a,b,c,T4,99,8,32,1,1\n").contains("0 to 16"));
}
