#!/usr/bin/env bash
# moto 5.2.5 (server), boto3 1.44.8: If-None-Match on a copy.
#
# moto answers 412 to a conditional PutObject and to a conditional CompleteMultipartUpload of a key that is there, and carries
# out a conditional CopyObject, which S3 refuses in the same way. Code that publishes by copy-if-absent passes its tests
# against this server whether its precondition is right or missing.
# What to do: test conditional writes against a server that checks them, for each verb that is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[s3,server]==5.2.5' boto3==1.44.8
venv/bin/python - 2>/dev/null <<'PYTHON'
import boto3, botocore.exceptions
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="a", aws_secret_access_key="b",
                      region_name="us-east-1")
client.create_bucket(Bucket="bucket")
client.put_object(Bucket="bucket", Key="other", Body=b"other")

def put(**condition):
    client.put_object(Bucket="bucket", Key="key", Body=b"put", **condition)

def copy(**condition):
    client.copy_object(Bucket="bucket", Key="key", CopySource="bucket/other", **condition)

def multipart(**condition):
    place = {"Bucket": "bucket", "Key": "key"}
    upload = client.create_multipart_upload(**place)["UploadId"]
    tag = client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"parts")["ETag"]
    parts = {"Parts": [{"ETag": tag, "PartNumber": 1}]}
    client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, **condition)

seen = {}
for write in (put, multipart, copy):
    client.put_object(Bucket="bucket", Key="key", Body=b"first")
    try:
        write(IfNoneMatch="*")
    except botocore.exceptions.ClientError as error:
        print(write.__name__, error.response["Error"]["Code"])
    seen[write.__name__] = client.get_object(Bucket="bucket", Key="key")["Body"].read().decode()
server.stop()
print(seen)
assert seen == {"put": "first", "multipart": "first", "copy": "other"}, "it has changed"
PYTHON
