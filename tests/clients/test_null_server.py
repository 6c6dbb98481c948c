"""dlclient.null_server: what the client itself costs."""

from dlclient.null_server import client_cost_s


def test_the_clients_cost_is_small_and_grows_with_what_it_sends() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    small, large = (client_cost_s(head % size + b"x" * size, 500) for size in (10, 20_000_000))
    assert 0 < small < large
    assert small < 0.05
