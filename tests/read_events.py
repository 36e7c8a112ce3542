#!/usr/bin/env python3
"""Reads TensorBoard's event files without TensorBoard: every checksum, and every field by its number.
Usage: read_events.py FOLDER, which prints "step tag value" for each, "step tag WIDTHxHEIGHTxCHANNELS BYTES" for pictures."""
import os
import struct
import sys

TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)


def masked_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


assert (masked_crc32c(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF == (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """(number, value) of each field of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[key & 7]
            value, at = struct.unpack("<d" if size == 8 else "<f", data[at : at + size])[0], at + size
        yield key >> 3, value
    assert at == len(data)


def records(path):
    data = open(path, "rb").read()
    at = 0
    while at < len(data):
        (size,) = struct.unpack("<Q", data[at : at + 8])
        (of_size,) = struct.unpack("<I", data[at + 8 : at + 12])
        record = data[at + 12 : at + 12 + size]
        (of_record,) = struct.unpack("<I", data[at + 12 + size : at + 16 + size])
        assert of_size == masked_crc32c(data[at : at + 8]) and of_record == masked_crc32c(record), path
        yield dict(fields(record))
        at += 16 + size
    assert at == len(data), path


for name in sorted(os.listdir(sys.argv[1])):
    assert name.startswith("events.out.tfevents."), name
    for i, event in enumerate(records(os.path.join(sys.argv[1], name))):
        assert event[1] > 1.7e9, "wall time"
        assert (event.get(3) == b"brain.Event:2") == (i == 0), "the version comes first"
        if 7 in event:
            print(event[2], "restart", dict(fields(event[7]))[1])
        for number, value in fields(event.get(5, b"")):
            assert number == 1
            value = dict(fields(value))
            if 4 in value:
                image = dict(fields(value[4]))
                assert image[4][:8] == b"\x89PNG\r\n\x1a\n"
                print(event[2], value[1].decode(), f"{image[2]}x{image[1]}x{image[3]}", len(image[4]))
            else:
                print(event[2], value[1].decode(), f"{value[2]:.6g}")
