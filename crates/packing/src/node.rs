//! A node: what it has, and what is left of it.

use crate::request::{GpuRequest, MAX_GPUS, Model, Request, WHOLE_GPU};

/// What a node has. Nodes with equal capacities are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// MiB.
    pub memory_mib: u32,
    /// At most [`MAX_GPUS`].
    pub gpus: u8,
    /// Of all its GPUs; `None` where it has none, or their model is not known.
    pub model: Option<Model>,
}

/// Some of a node's GPUs: bit `i` is its GPU `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Devices(pub u16);

impl Devices {
    /// One GPU.
    pub fn one(index: usize) -> Self {
        Self(1 << index)
    }

    /// Their indices, lowest first.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..MAX_GPUS).filter(move |index| self.0 & 1 << index != 0)
    }
}

/// What runs on a node, by what it takes of GPUs; nodes of one kind only are what
/// [`GpuClustering`](crate::Policy::GpuClustering) wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds {
    /// Pods by the GPUs that each takes; those with a share are at 0.
    pods: [u16; MAX_GPUS + 1],
}

fn kind(gpu: GpuRequest) -> Option<usize> {
    match gpu {
        GpuRequest::None => None,
        GpuRequest::Share(_) => Some(0),
        GpuRequest::Whole(count) => Some(usize::from(count)),
    }
}

/// A node with what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    capacity: Capacity,
    pub(crate) cpu_left: u32,
    pub(crate) memory_left: u32,
    /// Thousandths of each GPU; 0 beyond the last one.
    pub(crate) gpu_left: [u16; MAX_GPUS],
    kinds: Kinds,
}

impl Node {
    /// A node on which nothing runs.
    pub fn empty(capacity: Capacity) -> Self {
        let mut gpu_left = [0; MAX_GPUS];
        for left in gpu_left.iter_mut().take(usize::from(capacity.gpus)) {
            *left = WHOLE_GPU;
        }
        Self {
            cpu_left: capacity.cpu_milli,
            memory_left: capacity.memory_mib,
            gpu_left,
            kinds: Kinds::default(),
            capacity,
        }
    }

    /// What the node has.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Thousandths of a core that nobody has.
    pub fn cpu_left(&self) -> u32 {
        self.cpu_left
    }

    /// MiB that nobody has.
    pub fn memory_left(&self) -> u32 {
        self.memory_left
    }

    /// Thousandths that are left of each GPU.
    pub fn gpus_left(&self) -> &[u16] {
        self.gpu_left.get(..usize::from(self.capacity.gpus)).unwrap_or_default()
    }

    /// Thousandths that are left of all GPUs together.
    pub fn gpu_left(&self) -> u32 {
        self.gpu_left.iter().map(|left| u32::from(*left)).sum()
    }

    /// GPUs of which nobody has a part.
    pub fn free_gpus(&self) -> u8 {
        self.gpu_left.iter().map(|left| u8::from(*left == WHOLE_GPU)).sum()
    }

    /// How many different kinds of GPU pods run here: with a share, with one GPU, with two, …
    pub(crate) fn kinds_of_pods(&self) -> usize {
        self.kinds.pods.iter().filter(|pods| **pods > 0).count()
    }

    /// Whether a pod runs here that takes the same of GPUs: a share, or as many whole ones.
    pub(crate) fn has_kind(&self, gpu: GpuRequest) -> bool {
        kind(gpu).and_then(|at| self.kinds.pods.get(at)).is_some_and(|pods| *pods > 0)
    }

    /// Whether there is room for a pod.
    pub fn fits(&self, request: &Request) -> bool {
        request.cpu_milli <= self.cpu_left
            && request.memory_mib <= self.memory_left
            && request.models.allows(self.capacity.model)
            && self.has_gpus(request.gpu)
    }

    /// Whether there is room on the GPUs alone.
    pub(crate) fn has_gpus(&self, gpu: GpuRequest) -> bool {
        match gpu {
            GpuRequest::None => true,
            GpuRequest::Share(milli) => self.gpu_left.iter().any(|left| *left >= milli),
            GpuRequest::Whole(count) => self.free_gpus() >= count,
        }
    }

    /// The GPUs that a request takes where nothing else decides: of those with room for the share
    /// the fullest, and of free ones the first. `None` where there is no room.
    pub fn tightest(&self, gpu: GpuRequest) -> Option<Devices> {
        match gpu {
            GpuRequest::None => Some(Devices::default()),
            GpuRequest::Share(milli) => self
                .gpu_left
                .iter()
                .enumerate()
                .filter(|(_, left)| **left >= milli)
                .min_by_key(|(index, left)| (**left, *index))
                .map(|(index, _)| Devices::one(index)),
            GpuRequest::Whole(count) => {
                let mut devices = Devices::default();
                let free = self.gpu_left.iter().enumerate().filter(|it| *it.1 == WHOLE_GPU);
                for (index, _) in free.take(usize::from(count)) {
                    devices.0 |= Devices::one(index).0;
                }
                (devices.0.count_ones() == u32::from(count)).then_some(devices)
            }
        }
    }

    /// This node after a pod has come to these GPUs. `None` where there is no room for it.
    pub fn with(mut self, request: &Request, devices: Devices) -> Option<Self> {
        self.cpu_left = self.cpu_left.checked_sub(request.cpu_milli)?;
        self.memory_left = self.memory_left.checked_sub(request.memory_mib)?;
        if devices.0.count_ones() != u32::from(request.gpu.count()) {
            return None;
        }
        for index in devices.indices() {
            let left = self.gpu_left.get_mut(index)?;
            *left = left.checked_sub(request.gpu.per_gpu())?;
        }
        if let Some(pods) = kind(request.gpu).and_then(|at| self.kinds.pods.get_mut(at)) {
            *pods = pods.checked_add(1)?;
        }
        Some(self)
    }

    /// This node after a pod has left these GPUs. `None` where it cannot have been here.
    pub fn without(mut self, request: &Request, devices: Devices) -> Option<Self> {
        let give = |left: u32, more: u32, most: u32| {
            left.checked_add(more).filter(|amount| *amount <= most)
        };
        self.cpu_left = give(self.cpu_left, request.cpu_milli, self.capacity.cpu_milli)?;
        self.memory_left = give(self.memory_left, request.memory_mib, self.capacity.memory_mib)?;
        if devices.0.count_ones() != u32::from(request.gpu.count()) {
            return None;
        }
        for index in devices.indices().collect::<Vec<_>>() {
            if index >= usize::from(self.capacity.gpus) {
                return None;
            }
            let left = self.gpu_left.get_mut(index)?;
            *left = left.checked_add(request.gpu.per_gpu()).filter(|it| *it <= WHOLE_GPU)?;
        }
        if let Some(pods) = kind(request.gpu).and_then(|at| self.kinds.pods.get_mut(at)) {
            *pods = pods.checked_sub(1)?;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::ModelSet;

    fn request(cpu_milli: u32, gpu: GpuRequest) -> Request {
        Request { cpu_milli, memory_mib: 0, gpu, models: ModelSet::ANY }
    }

    fn node(gpus: u8) -> Node {
        Node::empty(Capacity { cpu_milli: 8000, memory_mib: 1024, gpus, model: None })
    }

    #[test]
    fn room() {
        #[track_caller]
        fn check(asks: Request, expected: Option<u16>) {
            let used = node(4).with(&request(0, GpuRequest::Share(300)), Devices::one(1));
            let used =
                used.and_then(|it| it.with(&request(0, GpuRequest::Share(600)), Devices::one(2)));
            let used = used.expect("room");
            let devices = used.tightest(asks.gpu).filter(|_| used.fits(&asks));
            assert_eq!(devices.map(|it| it.0), expected, "{asks:?}");
        }
        check(request(8000, GpuRequest::None), Some(0));
        check(request(8001, GpuRequest::None), None);
        check(Request { memory_mib: 1025, ..request(0, GpuRequest::None) }, None);
        check(Request { models: ModelSet::EMPTY, ..request(0, GpuRequest::None) }, None);
        check(request(0, GpuRequest::Share(400)), Some(0b100));
        check(request(0, GpuRequest::Share(401)), Some(0b10));
        check(request(0, GpuRequest::Share(701)), Some(0b1));
        check(request(0, GpuRequest::Whole(2)), Some(0b1001));
        check(request(0, GpuRequest::Whole(3)), None);
    }

    fn requests() -> impl Strategy<Value = Request> {
        let gpu = prop_oneof![
            Just(GpuRequest::None),
            (1u16..1000).prop_map(GpuRequest::Share),
            (1u8..=4).prop_map(GpuRequest::Whole),
        ];
        (0u32..3000, 0u32..300, gpu)
            .prop_map(|(cpu, mem, gpu)| Request { memory_mib: mem, ..request(cpu, gpu) })
    }

    proptest! {
        #[test]
        fn what_leaves_gives_back_what_it_took(pods in prop::collection::vec(requests(), 0..20)) {
            let start = node(4);
            let mut now = start;
            let mut placed = Vec::new();
            for pod in pods {
                let devices = now.tightest(pod.gpu).filter(|_| now.fits(&pod));
                let Some(devices) = devices else {
                    prop_assert!(now.with(&pod, Devices(0xF)).is_none_or(|_| pod.gpu.count() == 4));
                    continue;
                };
                now = now.with(&pod, devices).expect("it fits");
                placed.push((pod, devices));
            }
            for (pod, devices) in placed {
                now = now.without(&pod, devices).expect("it was here");
            }
            prop_assert_eq!(now, start);
            prop_assert!(now.without(&request(1, GpuRequest::None), Devices(0)).is_none());
        }
    }
}
