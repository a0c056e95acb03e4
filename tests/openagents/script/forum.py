"""The forum and the feed."""

from __future__ import annotations

from .steps import Kept, Send, Step

_TOPIC = {"topic_id": Kept("topic")}
_VOTE = {"target_type": "topic", "target_id": Kept("topic"), "vote_type": "upvote"}
_SECRET = {"topic_id": Kept("secret topic")}

FORUM: list[Step] = [
    Send(
        "alice",
        "forum.topic.create",
        {"action": "create", "title": "Tabs", "content": "or spaces?"},
        keep={"topic": "topic_id"},
    ),
    Send("alice", "forum.topic.create", {"action": "create", "title": " ", "content": "x"}),
    Send("alice", "forum.topic.create", {"action": "dance"}),
    Send(
        "alice",
        "forum.topic.create",
        {"action": "create", "title": "Ours", "content": "for developers", "allowed_groups": ["developers"]},
        keep={"secret topic": "topic_id"},
    ),
    Send("bob", "forum.topic.get", {"query_type": "get_topic", **_SECRET}),  # denied
    Send("alice", "forum.topic.get", {"query_type": "get_topic", **_SECRET}),
    Send("alice", "forum.topic.edit", {"action": "edit", **_TOPIC, "content": "or spaces, at last?"}),
    Send("bob", "forum.topic.edit", {"action": "edit", **_TOPIC, "content": "mine"}),
    Send(
        "bob",
        "forum.comment.post",
        {"action": "post", **_TOPIC, "content": "spaces"},
        keep={"comment": "comment_id"},
    ),
    Send("bob", "forum.comment.post", {"action": "post", **_SECRET, "content": "let me in"}),
    Send("bob", "forum.comment.post", {"action": "post", **_TOPIC, "content": ""}),
    Send(
        "carol",
        "forum.comment.reply",
        {"action": "reply", **_TOPIC, "parent_comment_id": Kept("comment"), "content": "tabs"},
        keep={"reply": "comment_id"},
    ),
    Send("bob", "forum.comment.edit", {"action": "edit", **_TOPIC, "comment_id": Kept("comment"), "content": "four"}),
    Send("alice", "forum.comment.edit", {"action": "edit", **_TOPIC, "comment_id": Kept("comment"), "content": "x"}),
    Send("bob", "forum.vote.cast", {"action": "cast", **_VOTE}),
    Send("bob", "forum.vote.cast", {"action": "cast", **_VOTE}),
    Send("carol", "forum.vote.cast", {"action": "cast", **_VOTE, "vote_type": "downvote"}),
    Send("carol", "forum.vote.cast", {"action": "cast", **_VOTE, "vote_type": "sideways"}),
    Send("carol", "forum.vote.remove", {"action": "remove", **_VOTE}),
    Send("carol", "forum.vote.remove", {"action": "remove", **_VOTE}),
    Send("bob", "forum.topics.list", {"query_type": "list_topics", "sort_by": "recent"}),
    Send("alice", "forum.topics.list", {"query_type": "list_topics", "sort_by": "votes"}, unordered=("topics",)),
    Send("alice", "forum.topics.search", {"query_type": "search_topics", "query": "spaces"}),
    Send("alice", "forum.popular.topics", {"query_type": "popular_topics"}, unordered=("topics",)),
    Send("alice", "forum.recent.topics", {"query_type": "recent_topics", "limit": 1}),
    Send("bob", "forum.user.topics", {"query_type": "user_topics", "agent_id": "alice"}),
    Send("alice", "forum.user.comments", {"query_type": "user_comments", "agent_id": "bob"}),
    Send("alice", "forum.topic.get", {"query_type": "get_topic", **_TOPIC}),
    Send("bob", "forum.comment.delete", {"action": "delete", **_TOPIC, "comment_id": Kept("comment")}),
    Send("bob", "forum.topic.delete", {"action": "delete", **_TOPIC}),
    Send("alice", "forum.topic.delete", {"action": "delete", **_TOPIC}),
    Send("alice", "forum.topic.get", {"query_type": "get_topic", **_TOPIC}),
]

_ATTACHMENT = {"file_id": "f1", "filename": "a.png", "content_type": "image/png", "size": 12}

FEED: list[Step] = [
    Send(
        "alice",
        "feed.post.create",
        {"title": "News", "content": "we are here", "tags": ["News", " x "], "attachments": [_ATTACHMENT]},
        keep={"post": "post_id"},
    ),
    Send(
        "carol",
        "feed.post.create",
        {"title": "Inner news", "content": "psst", "allowed_groups": ["admin"]},
        keep={"secret post": "post_id"},
    ),
    Send("carol", "feed.post.create", {"title": "", "content": "x"}),
    Send("carol", "feed.post.create", {"title": "t" * 201, "content": "x"}),
    Send("bob", "feed.posts.list", {}),
    Send("carol", "feed.posts.list", {"sort_by": "oldest", "limit": 1}),
    Send("bob", "feed.posts.search", {"query": "news"}),
    Send("bob", "feed.posts.search", {"query": " "}),
    Send("carol", "feed.posts.recent", {"tags": ["news"]}),
    Send("carol", "feed.posts.recent", {"since_timestamp": "yesterday"}),
    Send("bob", "feed.post.get", {"post_id": Kept("post")}),
    Send("bob", "feed.post.get", {"post_id": Kept("secret post")}),
    Send("bob", "feed.post.get", {}),
]

STEPS = FORUM + FEED
