//! Clusters by what their nodes announce and their pods ask for: whole GPUs, shares of GPUs, or
//! instances, each under the name of a resource.
//!
//! Nodes that announce one resource, cut their GPUs into as many parts and have the same product are
//! of one GPU model; so a pod that asks for shares never comes to a node of whole GPUs.

use std::collections::{BTreeMap, BTreeSet};

use crate::models::{Models, TooManyModels};
use crate::node::{Capacity, Node};
use crate::request::{GpuRequest, MAX_GPUS, Model, ModelSet, Request, WHOLE_GPU};

/// Equal units of a machine's GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// What pods ask for.
    pub resource: String,
    /// As people know the GPU; empty where it is not known.
    pub product: String,
    /// Of all GPUs.
    pub count: u32,
    /// Into how many units each GPU is cut; 1 where they are whole.
    pub per_gpu: u32,
}

/// What a machine has for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Of each resource of which it has some.
    pub units: Vec<Units>,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// MiB.
    pub memory_mib: u64,
    /// Units by resource.
    pub units: BTreeMap<String, u64>,
}

/// What is not modelled of a machine or a pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotModelled {
    /// Parts of several sizes stand beside one another.
    #[error("it has {0} at once, which are not modelled together")]
    SeveralResources(String),
    /// More GPUs than are modelled.
    #[error("its {units} units of `{resource}` make more than {MAX_GPUS} GPUs")]
    TooManyGpus {
        /// What it has.
        resource: String,
        /// How many.
        units: u64,
    },
    /// A pod that wants more than one part of a GPU.
    #[error("{units} parts of GPUs by `{resource}` may be of one GPU or of several")]
    SeveralParts {
        /// What it asks for.
        resource: String,
        /// How many.
        units: u64,
    },
    /// No node announces it.
    #[error("no node has `{0}`")]
    NotAnnounced(String),
}

/// The kinds of GPUs of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    models: Models,
    kinds: Vec<Kind>,
}

#[derive(Clone, Debug)]
struct Kind {
    resource: String,
    per_gpu: u32,
    model: Model,
    machines: usize,
}

fn amount(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Fleet {
    /// How many GPU models there are.
    pub fn models(&self) -> usize {
        self.models.count()
    }

    /// The name of a model.
    pub fn name(&self, model: Model) -> &str {
        self.models.name(model)
    }

    /// Takes a machine in. Where its GPUs are not modelled it is a node without any, and the reason
    /// comes with it.
    ///
    /// # Errors
    ///
    /// More kinds of GPUs than can be told apart.
    pub fn add(&mut self, machine: &Machine) -> Result<(Node, Option<NotModelled>), TooManyModels> {
        let mut capacity = Capacity {
            cpu_milli: amount(machine.cpu_milli),
            memory_mib: amount(machine.memory_mib),
            gpus: 0,
            model: None,
        };
        let mut there = machine.units.iter().filter(|units| units.count > 0);
        let Some(units) = there.next() else { return Ok((Node::empty(capacity), None)) };
        if there.next().is_some() {
            let names: BTreeSet<&str> =
                machine.units.iter().map(|units| units.resource.as_str()).collect();
            let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
            let why = NotModelled::SeveralResources(names.join(" and "));
            return Ok((Node::empty(capacity), Some(why)));
        }
        let per_gpu = units.per_gpu.clamp(1, u32::from(WHOLE_GPU));
        let gpus = units.count.div_ceil(per_gpu);
        let Some(gpus) = u8::try_from(gpus).ok().filter(|it| usize::from(*it) <= MAX_GPUS) else {
            let why = NotModelled::TooManyGpus {
                resource: units.resource.clone(),
                units: units.count.into(),
            };
            return Ok((Node::empty(capacity), Some(why)));
        };
        let name = match (units.product.as_str(), per_gpu) {
            ("", 1) => units.resource.clone(),
            ("", parts) => format!("{} of {parts}", units.resource),
            (product, 1) => format!("{product} by {}", units.resource),
            (product, parts) => format!("{product} by {} of {parts}", units.resource),
        };
        let model = self.models.model(&name)?;
        match self.kinds.iter_mut().find(|kind| kind.model == model) {
            Some(kind) => kind.machines += 1,
            None => self.kinds.push(Kind {
                resource: units.resource.clone(),
                per_gpu,
                model,
                machines: 1,
            }),
        }
        (capacity.gpus, capacity.model) = (gpus, Some(model));
        let mut node = Node::empty(capacity);
        // Of a GPU that is broken in part, or cut into other parts, what is not announced is gone.
        let rest = u32::from(gpus) * per_gpu - units.count;
        if rest > 0
            && let Some(last) = node.gpu_left.get_mut(usize::from(gpus) - 1)
        {
            let there = u32::from(share(per_gpu)) * (per_gpu - rest);
            *last = u16::try_from(there).unwrap_or(*last).min(*last);
        }
        Ok((node, None))
    }

    /// What a pod asks for. One that runs on a node of a model has units of that model's size; one
    /// that waits is thought to want those of which most machines have some.
    ///
    /// # Errors
    ///
    /// What is not modelled.
    pub fn request(&self, asked: &Asked, on: Option<Model>) -> Result<Request, NotModelled> {
        let mut request = Request {
            cpu_milli: amount(asked.cpu_milli),
            memory_mib: amount(asked.memory_mib),
            gpu: GpuRequest::None,
            models: ModelSet::ANY,
        };
        let mut wanted = asked.units.iter().filter(|(_, units)| **units > 0);
        let Some((resource, units)) = wanted.next() else { return Ok(request) };
        if wanted.next().is_some() {
            let names: Vec<String> = asked.units.keys().map(|name| format!("`{name}`")).collect();
            return Err(NotModelled::SeveralResources(names.join(" and ")));
        }
        let own = || self.kinds.iter().filter(|kind| kind.resource == *resource);
        let here = own().find(|kind| on == Some(kind.model));
        let most = || own().max_by_key(|kind| (kind.machines, std::cmp::Reverse(kind.model)));
        let Some(per_gpu) = here.or_else(most).map(|kind| kind.per_gpu) else {
            return Err(NotModelled::NotAnnounced(resource.clone()));
        };
        let models = own().filter(|kind| kind.per_gpu == per_gpu);
        request.models = models.fold(ModelSet::EMPTY, |set, kind| set.with(kind.model));
        request.gpu = match (per_gpu, u8::try_from(*units)) {
            (1, Ok(count)) if usize::from(count) <= MAX_GPUS => GpuRequest::Whole(count),
            (1, _) => {
                let (resource, units) = (resource.clone(), *units);
                return Err(NotModelled::TooManyGpus { resource, units });
            }
            (_, Ok(1)) => GpuRequest::Share(share(per_gpu)),
            _ => {
                let (resource, units) = (resource.clone(), *units);
                return Err(NotModelled::SeveralParts { resource, units });
            }
        };
        Ok(request)
    }

    /// The request for people: `2 × nvidia.com/gpu`, or nothing.
    pub fn words(&self, request: &Request) -> String {
        let kinds = self.kinds.iter().filter(|kind| request.models.allows(Some(kind.model)));
        let mut kinds = kinds.peekable();
        let resource = kinds.peek().map_or("GPUs", |kind| kind.resource.as_str());
        match request.gpu {
            GpuRequest::None => String::new(),
            GpuRequest::Share(_) => format!("1 × {resource}"),
            GpuRequest::Whole(count) => format!("{count} × {resource}"),
        }
    }
}

/// A part of a GPU that is cut into so many, in thousandths; one at least.
fn share(per_gpu: u32) -> u16 {
    u16::try_from(u32::from(WHOLE_GPU) / per_gpu.max(1)).unwrap_or(WHOLE_GPU).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(units: &[(&str, &str, u32, u32)]) -> Machine {
        let units = units.iter().map(|(resource, product, count, per_gpu)| Units {
            resource: (*resource).to_owned(),
            product: (*product).to_owned(),
            count: *count,
            per_gpu: *per_gpu,
        });
        Machine { cpu_milli: 8000, memory_mib: 1024, units: units.collect() }
    }

    fn asked(units: &[(&str, u64)]) -> Asked {
        let units = units.iter().map(|(resource, count)| ((*resource).to_owned(), *count));
        Asked { cpu_milli: 1, memory_mib: 1, units: units.collect() }
    }

    #[test]
    fn shares_and_whole_gpus_do_not_mix() {
        let mut fleet = Fleet::default();
        let mut add = |units: &[(&str, &str, u32, u32)]| fleet.add(&machine(units)).expect("few");
        let (whole, _) = add(&[("nvidia.com/gpu", "T4", 4, 1)]);
        let (cut, _) = add(&[("nvidia.com/gpu.shared", "T4", 8, 4)]);
        let (broken, _) =
            add(&[("nvidia.com/gpu.shared", "T4", 6, 4), ("nvidia.com/gpu", "", 0, 1)]);
        let (none, why) = add(&[]);
        assert_eq!((none.capacity().gpus, why), (0, None));
        assert_eq!(whole.gpus_left(), [1000; 4]);
        assert_eq!(cut.gpus_left(), [1000; 2]);
        assert_eq!(broken.gpus_left(), [1000, 500]);
        let two = fleet.request(&asked(&[("nvidia.com/gpu", 2)]), None).expect("modelled");
        assert_eq!(two.gpu, GpuRequest::Whole(2));
        assert!(whole.fits(&two) && !cut.fits(&two));
        let part = fleet.request(&asked(&[("nvidia.com/gpu.shared", 1)]), None).expect("modelled");
        assert_eq!(part.gpu, GpuRequest::Share(250));
        assert!(cut.fits(&part) && !whole.fits(&part));
        assert_eq!(fleet.words(&two), "2 × nvidia.com/gpu");
        assert_eq!(fleet.words(&part), "1 × nvidia.com/gpu.shared");
        let nothing = fleet.request(&asked(&[("nvidia.com/gpu", 0)]), None).expect("modelled");
        assert!(whole.fits(&nothing) && none.fits(&nothing));
    }

    #[test]
    fn units_have_the_size_of_the_node_where_they_are() {
        let mut fleet = Fleet::default();
        let mut add = |per_gpu| {
            fleet.add(&machine(&[("nvidia.com/gpu.shared", "L4", 4, per_gpu)])).expect("few").0
        };
        let (halves, _, quarters) = (add(2), add(2), add(4));
        let of = |on| fleet.request(&asked(&[("nvidia.com/gpu.shared", 1)]), on).map(|it| it.gpu);
        assert_eq!(of(None), Ok(GpuRequest::Share(500)));
        assert_eq!(of(halves.capacity().model), Ok(GpuRequest::Share(500)));
        assert_eq!(of(quarters.capacity().model), Ok(GpuRequest::Share(250)));
    }

    #[test]
    fn what_is_not_modelled_is_told() {
        let mut fleet = Fleet::default();
        let mixed =
            [("nvidia.com/mig-1g.5gb", "A100", 4, 7), ("nvidia.com/mig-3g.20gb", "A100", 1, 2)];
        let (node, why) = fleet.add(&machine(&mixed)).expect("few");
        assert_eq!(node.capacity().gpus, 0);
        assert!(why.expect("why").to_string().contains("`nvidia.com/mig-1g.5gb` and"));
        let (_, why) = fleet.add(&machine(&[("x/gpu", "", 17, 1)])).expect("few");
        assert!(why.expect("why").to_string().contains("more than 16 GPUs"));
        fleet.add(&machine(&[("x/part", "", 8, 4)])).expect("few");
        fleet.add(&machine(&[("x/gpu", "", 8, 1)])).expect("few");
        let error = |units: &[(&str, u64)]| {
            fleet.request(&asked(units), None).expect_err("not modelled").to_string()
        };
        assert!(error(&[("x/part", 2)]).contains("may be of one GPU or of several"));
        assert!(error(&[("x/gpu", 17)]).contains("more than 16 GPUs"));
        assert!(error(&[("y/gpu", 1)]).contains("no node has `y/gpu`"));
        assert!(error(&[("x/gpu", 1), ("x/part", 1)]).contains("at once"));
    }
}
