"""What measurements, the checks of docker/ and the tests all use: tiny models, servers in processes of their own.

It is here and not in tests/support, since tests may import measurements and not the other way round.
"""
