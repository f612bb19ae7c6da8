#!/usr/bin/env python3
"""The stand-in for Slack is itself held to SINKS' words: a stand-in that takes what Slack refuses proves nothing."""
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slack_server  # noqa: E402


def section(text, kind="mrkdwn"):
    return {"type": "section", "text": {"type": kind, "text": text}}


class SlackServerTest(unittest.TestCase):
    def setUp(self):
        self.slack = slack_server.SlackServer().start()
        self.addCleanup(self.slack.close)

    def post(self, body, path=None, headers=None, method="POST"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.slack.port, timeout=10)
        self.addCleanup(connection.close)
        path = path or urllib.parse.urlsplit(self.slack.hook()).path
        connection.request(method, path, data, headers or {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.getheaders())

    def says(self, body, path=None):
        return self.post(body, path)[:2]

    def test_ok_is_two_letters(self):
        self.assertEqual((200, "ok"), self.says({"text": "hello"}))
        self.assertEqual((200, "ok"), self.says({"blocks": [section("hello")]}))
        self.assertEqual((200, "ok"), self.says({"attachments": [{"color": "#ff0000", "blocks": [section("hello")]}]}))
        self.assertEqual((200, "ok"), self.post(b"payload=" + urllib.parse.quote('{"text": "x"}').encode(),
                                                headers={"Content-Type": "application/x-www-form-urlencoded"})[:2])
        self.assertEqual(4, len(self.slack.messages()))

    def test_refusals_have_slacks_words(self):
        for what, body, answer in [
            ("malformed JSON, which is also the silent probe", b"{", (400, "invalid_payload")),
            ("JSON that is no object", b"[]", (400, "invalid_payload")),
            ("bytes that are not UTF-8", b'{"text": "\xff"}', (400, "invalid_payload")),
            ("nothing to say", {}, (400, "no_text")),
            ("an empty text", {"text": ""}, (400, "no_text")),
            ("blocks that are no list", {"text": "x", "blocks": {}}, (400, "invalid_blocks_format")),
            ("a block that is no object", {"blocks": ["x"]}, (400, "invalid_blocks_format")),
            ("51 blocks", {"blocks": [{"type": "divider"}] * 51}, (400, "invalid_blocks")),
            ("a section of 3001 characters", {"blocks": [section("x" * 3001)]}, (400, "invalid_blocks")),
            ("an empty section", {"blocks": [section("")]}, (400, "invalid_blocks")),
            ("a header of 151 characters",
             {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, (400, "invalid_blocks")),
            ("a header in mrkdwn", {"blocks": [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}]}, (400, "invalid_blocks")),
            ("11 fields", {"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}]}, (400, "invalid_blocks")),
            ("a field of 2001 characters",
             {"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2001}]}]}, (400, "invalid_blocks")),
            ("11 context elements",
             {"blocks": [{"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 11}]}, (400, "invalid_blocks")),
            ("a key that Slack does not know", {"blocks": [{**section("x"), "colour": "red"}]}, (400, "invalid_blocks")),
            ("a block that Slack does not know", {"blocks": [{"type": "sektion"}]}, (400, "invalid_blocks")),
            ("one block_id twice", {"blocks": [{"type": "divider", "block_id": "a"}] * 2}, (400, "invalid_blocks")),
            ("an empty preformatted",
             {"blocks": [{"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": []}]}]}, (400, "invalid_blocks")),
            ("an empty text in rich text",
             {"blocks": [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": ""}]}]}]},
             (400, "invalid_blocks")),
            ("bold in preformatted's place: a user",
             {"blocks": [{"type": "rich_text", "elements": [
                 {"type": "rich_text_preformatted", "elements": [{"type": "user", "user_id": "U1"}]}]}]}, (400, "invalid_blocks")),
            ("26 buttons", {"blocks": [{"type": "actions", "elements": [
                {"type": "button", "text": {"type": "plain_text", "text": "x"}}] * 26}]}, (400, "invalid_blocks")),
            ("a button of 76 characters", {"blocks": [{"type": "actions", "elements": [
                {"type": "button", "text": {"type": "plain_text", "text": "x" * 76}}]}]}, (400, "invalid_blocks")),
            ("101 attachments", {"attachments": [{"text": "x"}] * 101}, (400, "too_many_attachments")),
            ("an attachment that says nothing", {"attachments": [{"color": "good"}]}, (400, "missing_text_or_fallback_or_attachments")),
            ("a section of 3001 characters in an attachment",
             {"attachments": [{"blocks": [section("x" * 3001)]}]}, (400, "invalid_blocks")),
        ]:
            with self.subTest(what):
                self.slack.limit(25, 1.0)
                self.assertEqual(answer, self.says(body))
        self.assertEqual([], self.slack.messages())

    def test_the_limits_themselves_are_allowed(self):
        blocks = [{"type": "header", "text": {"type": "plain_text", "text": "ü" * 150}}, section("🔥" * 3000),
                  {"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2000}] * 10},
                  {"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 10}] + [{"type": "divider"}] * 46
        self.assertEqual((200, "ok"), self.says({"blocks": blocks}))

    def test_unknown_webhooks_are_no_service(self):
        self.assertEqual((404, "no_service"), self.says({"text": "x"}, "/services/nonsense"))
        self.assertEqual((404, "no_service"), self.says({"text": "x"}, "/"))
        self.slack.revoke(self.slack.hook())
        self.assertEqual((404, "no_service"), self.says({"text": "x"}))
        self.slack.revoke(self.slack.hook(), 403, "invalid_token")
        self.assertEqual((403, "invalid_token"), self.says({"text": "x"}))
        self.slack.restore(self.slack.hook())
        self.assertEqual((200, "ok"), self.says({"text": "x"}))

    def test_rate_limit_says_how_long(self):
        answers = [self.post({"text": str(i)}) for i in range(26)]
        self.assertEqual([200] * 25, [status for status, _, _ in answers[:25]])
        status, body, headers = answers[25]
        self.assertEqual((429, "1"), (status, headers["Retry-After"]))
        self.assertEqual({"retry_after": 1, "ok": False, "error": "rate_limited"}, json.loads(body))
        self.assertEqual(200, self.post({"text": "another hook has its own bucket"},
                                        urllib.parse.urlsplit(self.slack.hook("OTHER")).path)[0])
        self.post({"text": "too early"})
        self.assertTrue(self.slack.entries()[-1]["early"])
        self.slack.limit(1, 50)
        self.slack.reset()
        self.post({"text": "in time"})
        self.assertFalse(self.slack.entries()[-1]["early"])

    def test_scripted_answers_come_in_order_and_then_end(self):
        self.slack.script({"status": 503, "body": "upstream", "times": 2},
                          {"status": 429, "body": "{}", "headers": {"Retry-After": "7"}})
        got = [self.post({"text": "x"}) for _ in range(4)]
        self.assertEqual([503, 503, 429, 200], [status for status, _, _ in got])
        self.assertEqual("7", got[2][2]["Retry-After"])
        self.assertEqual(1, len(self.slack.messages()))
        self.assertTrue(self.slack.entries()[-1]["early"])

    def test_an_answer_can_be_lost_after_the_message_was_taken(self):
        self.slack.script({"mode": "drop"})
        with self.assertRaises((http.client.HTTPException, ConnectionError)):
            self.post({"text": "taken"})
        self.assertEqual(["taken"], [m["payload"]["text"] for m in self.slack.messages()])

    def test_connections_can_be_reset_closed_or_half_answered(self):
        for mode in ("reset", "close", "half"):
            with self.subTest(mode):
                self.slack.script({"mode": mode})
                with self.assertRaises((http.client.HTTPException, ConnectionError)):
                    self.post({"text": mode})
        self.assertEqual(["half"], [m["payload"]["text"] for m in self.slack.messages()])

    def test_it_can_fall_silent_without_holding_others(self):
        for mode in ("never", "stall", "drip"):
            self.slack.script({"mode": mode})
            silent = socket.create_connection(("127.0.0.1", self.slack.port))
            self.addCleanup(silent.close)
            body = b'{"text": "x"}'
            path = urllib.parse.urlsplit(self.slack.hook()).path
            silent.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body))
            deadline = time.monotonic() + 5
            while not any(e["mode"] == mode for e in self.slack.entries()) and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            self.assertEqual((200, "ok"), self.says({"text": "others are served"}))
            silent.settimeout(0.2)
            got = b""
            try:
                got = silent.recv(100)
            except socket.timeout:
                pass
            self.assertLessEqual(len(got), 1 if mode == "drip" else 0)

    def test_a_question_is_no_message(self):
        self.slack.script({"status": 503}, {"status": 404, "body": "no_service", "probe": True})
        self.assertEqual((404, "no_service"), self.post(b'{"text": "not')[:2])
        self.assertEqual((400, "invalid_payload"), self.post(b'{"text": "not')[:2])
        self.assertEqual(503, self.says({"text": "hello"})[0])
        self.assertEqual(["hello"], [e["payload"]["text"] for e in self.slack.entries()])
        self.assertEqual([404, 400], [probe["status"] for probe in self.slack.probes])
        self.slack.revoke(self.slack.hook(), 410, "channel_is_archived")
        self.assertEqual((410, "channel_is_archived"), self.post(b"{")[:2])

    def test_control_and_journal_over_http(self):
        self.assertEqual((200, "ok"), self.says({"answers": [{"status": 410, "body": "channel_is_archived"}],
                                                 "hook": self.slack.hook()}, "/_control"))
        self.assertEqual((200, "ok"), self.says({"text": "x"}, urllib.parse.urlsplit(self.slack.hook("OTHER")).path))
        self.assertEqual((410, "channel_is_archived"), self.says({"text": "y"}))
        self.assertEqual(400, self.says([], "/_control")[0])
        status, body, _ = self.post(b"", "/_journal?since=1", method="GET")
        self.assertEqual((200, [(410, "y")]), (status, [(e["status"], e["payload"]["text"]) for e in json.loads(body)]))
        self.post(b"", "/_journal", method="DELETE")
        self.assertEqual([], self.slack.entries())
        self.assertEqual(405, self.post(b"", method="GET")[0])


class WebApiTest(unittest.TestCase):
    def setUp(self):
        self.slack = slack_server.SlackServer().start()
        self.addCleanup(self.slack.close)
        self.ops = "C0STANDIN1"

    def raw(self, method, body, kind, token=slack_server.TOKEN):
        connection = http.client.HTTPConnection("127.0.0.1", self.slack.port, timeout=10)
        self.addCleanup(connection.close)
        headers = {"Content-Type": kind, **({"Authorization": f"Bearer {token}"} if token else {})}
        connection.request("POST", "/api/" + method, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), dict(response.getheaders())

    def ask(self, method, **fields):
        return self.raw(method, urllib.parse.urlencode(fields), "application/x-www-form-urlencoded")[1]

    def tell(self, method, **fields):
        return self.raw(method, json.dumps(fields), "application/json; charset=utf-8")[1]

    def test_a_token_is_known_or_not(self):
        status, answer, headers = self.raw("auth.test", "", "application/x-www-form-urlencoded")
        self.assertEqual((200, True, slack_server.SCOPES), (status, answer["ok"], headers["X-OAuth-Scopes"]))
        for token, word in (("xoxb-other", "invalid_auth"), (None, "not_authed")):
            self.assertEqual({"ok": False, "error": word}, self.raw("auth.test", "", "application/json", token)[1])
        self.assertEqual("unknown_method", self.ask("chat.shout")["error"])

    def test_a_message_is_posted_changed_and_answered(self):
        first = self.tell("chat.postMessage", channel="#ops", text="fires", blocks=[section("fires")])
        self.assertEqual((True, self.ops), (first["ok"], first["channel"]))
        self.assertIn("/archives/C0STANDIN1/p", self.ask("chat.getPermalink", channel=self.ops, message_ts=first["ts"])["permalink"])
        self.assertTrue(self.tell("chat.update", channel=self.ops, ts=first["ts"], text="is over")["ok"])
        [message] = self.slack.api.shown()
        self.assertEqual(("is over", [section("fires")], 1), (message["text"], message["blocks"], message["updates"]), "blocks stay")
        self.tell("chat.postMessage", channel=self.ops, thread_ts=first["ts"], text="quietly")
        self.tell("chat.postMessage", channel=self.ops, thread_ts=first["ts"], text="aloud", reply_broadcast=True)
        self.assertEqual(["is over", "aloud"], [m["text"] for m in self.slack.api.shown()])
        self.assertEqual(["is over", "quietly", "aloud"],
                         [m["text"] for m in self.ask("conversations.replies", channel=self.ops, ts=first["ts"])["messages"]])
        for method, fields, word in (("chat.update", {"ts": "1.1", "text": "x"}, "message_not_found"),
                                     ("chat.postMessage", {"thread_ts": "1.1", "text": "x"}, "thread_not_found"),
                                     ("chat.update", {"ts": first["ts"], "text": "x", "blocks": [section("x" * 3001)]}, "invalid_blocks")):
            self.assertEqual(word, self.tell(method, channel=self.ops, **fields)["error"])

    def test_history_shows_metadata_to_who_asks_and_goes_page_by_page(self):
        self.slack.api.burst = 9
        stamps = [self.tell("chat.postMessage", channel=self.ops, text=str(i), metadata={"event_type": "e", "event_payload": {"i": i}})["ts"]
                  for i in range(3)]
        page = self.ask("conversations.history", channel=self.ops, limit=2, include_all_metadata="true")
        self.assertEqual(["2", "1"], [m["text"] for m in page["messages"]], "the newest first")
        self.assertEqual({"i": 2}, page["messages"][0]["metadata"]["event_payload"])
        self.assertTrue(page["has_more"])
        rest = self.ask("conversations.history", channel=self.ops, limit=2, cursor=page["response_metadata"]["next_cursor"])
        self.assertEqual([("0", False)], [(m["text"], "metadata" in m) for m in rest["messages"]])
        later = self.ask("conversations.history", channel=self.ops, oldest=stamps[1])
        self.assertEqual(["2"], [m["text"] for m in later["messages"]], "what is at `oldest` is not meant")

    def test_what_a_bot_may_not(self):
        api = self.slack.api
        api.add_channel("C0PRIVATE1", "private", is_member=False, is_private=True)
        api.add_channel("C0PUBLIC01", "public", is_member=False)
        api.add_channel("C0OLD00001", "old", is_archived=True)
        says = lambda channel: self.tell("chat.postMessage", channel=channel, text="x").get("error")  # noqa: E731
        self.assertEqual(["not_in_channel", "not_in_channel", "is_archived", "channel_not_found"],
                         [says(c) for c in ("C0PRIVATE1", "C0PUBLIC01", "C0OLD00001", "C0NOWHERE1")])
        self.assertEqual(["C0STANDIN1", "C0OLD00001"], [c["id"] for c in self.ask("users.conversations")["channels"]])
        self.assertTrue(self.ask("conversations.info", channel="C0OLD00001")["channel"]["is_archived"])
        self.assertEqual("channel_not_found", self.tell("conversations.info", channel=self.ops)["error"], "JSON is not read there")
        api.scopes = "chat:write,chat:write.public"
        self.assertEqual([None, "not_in_channel"], [says(c) for c in ("C0PUBLIC01", "C0PRIVATE1")])
        self.assertEqual("missing_scope", self.ask("conversations.history", channel=self.ops)["error"])

    def test_limits_and_scripts(self):
        for _ in range(3):
            self.tell("chat.postMessage", channel=self.ops, text="x")
        status, answer, headers = self.raw("chat.postMessage", json.dumps({"channel": self.ops, "text": "x"}), "application/json")
        self.assertEqual((429, "ratelimited", "1"), (status, answer["error"], headers["Retry-After"]))
        self.slack.script({"status": 200, "body": '{"ok":false,"error":"fatal_error"}'}, {"mode": "drop"}, hook="/api/chat.update")
        ts = self.slack.api.shown()[0]["ts"]
        self.assertEqual("fatal_error", self.tell("chat.update", channel=self.ops, ts=ts, text="y")["error"])
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.tell("chat.update", channel=self.ops, ts=ts, text="y")
        self.assertEqual("y", self.slack.api.shown()[0]["text"], "taken, and the answer lost")
        self.assertEqual(["answer", "drop"], [call["mode"] for call in self.slack.calls("chat.update")])


class RenderTest(unittest.TestCase):
    def seen(self, payload):
        slack_server.validate(payload)
        return slack_server.render(payload)

    def test_a_person_sees_text_not_markup(self):
        text, mentions = self.seen({"blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": ":fire: QueueUnreachable"}},
            section("*queue* `orders` &lt;b&gt; &amp;amp; <https://wiki.example.com/q|runbook> <https://a.example>"),
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "*Since*\n10:00"}, {"type": "plain_text", "text": "x"}]},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "delivery 8f2c"}]}]})
        for wanted in ("🔥 QueueUnreachable", "queue orders <b> &amp; runbook (https://wiki.example.com/q)", "https://a.example",
                       "Since", "10:00", "delivery 8f2c"):
            self.assertIn(wanted, text)
        self.assertEqual([], mentions)

    def test_an_escaped_mention_is_text_and_a_real_one_is_marked(self):
        text, mentions = self.seen({"blocks": [section("&lt;!channel&gt;")]})
        self.assertEqual((True, []), ("<!channel>" in text, mentions))
        for raw, who in [("<!channel>", "@channel"), ("<!here|x>", "@here"), ("<@U123>", "@U123"), ("<!subteam^S1>", "!subteam^S1"),
                         ("```x <!everyone> y```", "@everyone"), ("`<!here>`", "@here")]:
            with self.subTest(raw):
                text, mentions = self.seen({"blocks": [section(raw)]})
                self.assertIn(f"[MENTION {who}]", text)
                self.assertEqual([who], mentions)
        self.assertEqual(["@channel"], self.seen({"text": "<!channel>", "blocks": [section("quiet")]})[1])
        self.assertEqual(["@here"], self.seen({"text": "@here", "link_names": True})[1])
        self.assertEqual([], self.seen({"text": "@here"})[1])
        rich = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "broadcast", "range": "channel"}]}]}
        self.assertEqual(["@channel"], self.seen({"blocks": [rich]})[1])

    def test_rich_text_is_not_parsed(self):
        text, mentions = self.seen({"blocks": [{"type": "rich_text", "elements": [
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "<!channel> *x* &lt; ```"}]}]}]})
        self.assertIn("<!channel> *x* &lt; ```", text)
        self.assertEqual([], mentions)

    def test_what_is_rendered_cannot_act_upon_the_terminal(self):
        text, _ = self.seen({"blocks": [section("a\x1b]0;title\x07b\u202ec\u2028d")]})
        self.assertIn("a⟦U+001B⟧]0;title⟦U+0007⟧b⟦U+202E⟧c⟦U+2028⟧d", text)
        self.assertNotIn("\x1b", text)

    def test_long_lines_are_broken_between_words(self):
        text, _ = slack_server.render({"text": "word " * 60 + "x" * 100}, width=60)
        self.assertTrue(all(len(line) <= 60 for line in text.split("\n")[:-1]), text)


class CommandTest(unittest.TestCase):
    def test_prints_its_url_and_what_it_receives(self):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slack_server.py")
        with subprocess.Popen([sys.executable, script, "--port", "0", "--render"], stdout=subprocess.PIPE, text=True) as server:
            self.addCleanup(server.kill)
            url = server.stdout.readline().split()[-1]
            port = urllib.parse.urlsplit(url).port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            self.addCleanup(connection.close)
            connection.request("POST", "/services/T1/B1/x", json.dumps({"text": "hello *you*"}))
            self.assertEqual(b"ok", connection.getresponse().read())
            lines = [server.stdout.readline() for _ in range(3)]
            self.assertIn("┃ hello you\n", lines)
            server.kill()


if __name__ == "__main__":
    unittest.main()
