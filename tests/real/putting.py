"""One object, put and got in part by each server's own client library."""

from __future__ import annotations

import random

DATA = random.Random(11).randbytes(1 << 20)
PART = slice(1000, 5000)


def get_s3(s3, bucket):
    client = s3.client()
    try:
        answer = client.get_object(Bucket=bucket, Key="a", Range=f"bytes={PART.start}-{PART.stop - 1}")
        with answer["Body"] as body:
            return body.read()
    finally:
        client.close()


def put_s3(s3, bucket):
    client = s3.client()
    try:
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="a", Body=DATA)
    finally:
        client.close()


def get_swift(connection, container):
    try:
        headers = {"Range": f"bytes={PART.start}-{PART.stop - 1}"}
        return connection.get_object(container, "a", headers=headers)[1]
    finally:
        connection.close()


def put_swift(connection, container):
    try:
        connection.put_container(container)
        connection.put_object(container, "a", DATA)
    finally:
        connection.close()
