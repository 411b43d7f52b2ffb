"""What is run beside the server, and checks that it works: images, dashboard, alerts."""
