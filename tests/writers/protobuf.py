"""Writes messages with Google's protobuf: {"files": {name: text}, "message": …, "records": […]} on standard input. The first
line is the descriptor set that protoc makes of the files, then a message a line; all in hexadecimal digits.

Records are Protobuf's own JSON.
"""

import json
import pathlib
import sys
import tempfile

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

request = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    for name, text in request["files"].items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    output = pathlib.Path(folder, "descriptors")
    known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{folder}", f"-I{known}", "--include_imports", f"--descriptor_set_out={output}"]
    if protoc.main([*arguments, *request["files"]]) != 0:
        raise SystemExit("protoc failed")
    descriptors = output.read_bytes()
pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
    pool.Add(file)
message = message_factory.GetMessageClass(pool.FindMessageTypeByName(request["message"]))
print(descriptors.hex())
for record in request["records"]:
    print(json_format.ParseDict(record, message(), descriptor_pool=pool).SerializeToString().hex())
