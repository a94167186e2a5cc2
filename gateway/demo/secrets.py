"""The secrets that the demo plants, and so looks for. The card numbers are the networks' public test numbers."""

EMAIL_DOMAIN = "leak.example.com"
CARDS = ("4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005")
NEEDLES = (EMAIL_DOMAIN, *CARDS)


def planted_email(number: int) -> str:
    return f"customer-{number}@{EMAIL_DOMAIN}"
