"""What the demo tells people to do next is what the README tells them, which the tests of the pages run."""

from server.demo.show import NEXT
from tests.docs.blocks import of


def test_the_demo_ends_with_a_request_of_the_readme() -> None:
    assert NEXT in [block.text.strip() for block in of("curl") if block.file == "README.md"]
