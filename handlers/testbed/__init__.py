"""The test bed's scenarios, one file each."""
