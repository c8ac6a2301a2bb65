//! A device to prove controllers on. Its figures are modelled, not measured on a phone.
