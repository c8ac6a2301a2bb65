//! Devices as directories: what their files say, and what is made of it.

mod device;
mod devices;
mod hostile;
mod power;
mod temperature;
