"""The load test: the scenario's own arrivals, sent by Locust to a server that speaks OpenAI's API.

`locust -f loadtests/locustfile.py --scenario S --host URL` runs it; the locustfile says how its parts are joined.
Where to look: `options` the command line · `schedule` the arrays and each worker's share of them · `prompts` request
bodies · `wire` and `sse` HTTP and its stream of events, `events` what these say · `client` one model call, `failures`
what it can fail of · `meters` how busy and how late the client itself is · `dispatch` when each query goes, `gate` how
many may be outstanding, `rows` what is recorded of a call · `player` what a worker does · `conductor` what the master
does, `state` what it keeps of a run · `header` the records' first line, `writer` their file · `verdict` whether the run
may be used · `locust_stats` Locust's own statistics · `report` the text at the end.
"""
