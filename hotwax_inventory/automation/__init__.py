"""What runs when: jobs, sensors, schedules."""
