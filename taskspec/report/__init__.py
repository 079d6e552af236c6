"""What a finished run says about itself, and the page that shows it."""
