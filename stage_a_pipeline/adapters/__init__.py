"""Where Stage-B meets Stage-A: trainings on leased devices, and what an adapter does to both."""
