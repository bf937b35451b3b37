//! Nodes: the GPU operator's pods, the device plugin, the driver, the hardware.

mod d44_driver_not_installed;
mod d45_no_fabric_manager;
mod d46_no_operands;
mod d47_plugin_finds_nothing;
mod d48_unhealthy_devices;
mod d49_fell_off_the_bus;
mod d50_memory_fault;
mod d51_memory_error;
mod d52_application_error;
mod d53_link_fault;
mod d54_firmware_fault;
mod d55_corrupt_inforom;
mod d56_mig_beside_whole;
mod operands;
mod xids;

use crate::diagnosis::Diagnosis;
pub(crate) use operands::operand;

pub(crate) static DIAGNOSES: [&Diagnosis; 13] = [
    &d44_driver_not_installed::DIAGNOSIS,
    &d45_no_fabric_manager::DIAGNOSIS,
    &d46_no_operands::DIAGNOSIS,
    &d47_plugin_finds_nothing::DIAGNOSIS,
    &d48_unhealthy_devices::DIAGNOSIS,
    &d49_fell_off_the_bus::DIAGNOSIS,
    &d50_memory_fault::DIAGNOSIS,
    &d51_memory_error::DIAGNOSIS,
    &d52_application_error::DIAGNOSIS,
    &d53_link_fault::DIAGNOSIS,
    &d54_firmware_fault::DIAGNOSIS,
    &d55_corrupt_inforom::DIAGNOSIS,
    &d56_mig_beside_whole::DIAGNOSIS,
];
