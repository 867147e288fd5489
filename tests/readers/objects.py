"""A table in an object store, as pyarrow's own clients see it.

    objects.py STORE ADDRESS BUCKET make           make the bucket
    objects.py STORE ADDRESS BUCKET read PATH      {"rows": the values of the column n, ascending}

STORE: s3, gs or abfss.
"""

import json
import sys

import pyarrow.dataset
import pyarrow.fs

# What the manual of Azurite prints.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def store(scheme, address):
    if scheme == "s3":
        return pyarrow.fs.S3FileSystem(
            access_key="tester",
            secret_key="tester-secret",
            endpoint_override=address,
            scheme="http",
            region="us-east-1",
            allow_bucket_creation=True,
        )
    if scheme == "gs":
        return pyarrow.fs.GcsFileSystem(anonymous=True, endpoint_override=address, scheme="http", project_id="tests")
    return pyarrow.fs.AzureFileSystem(
        account_name=ACCOUNT,
        account_key=KEY,
        blob_storage_authority=address,
        dfs_storage_authority=address,
        blob_storage_scheme="http",
        dfs_storage_scheme="http",
    )


def main():
    scheme, address, bucket, action = sys.argv[1:5]
    files = store(scheme, address)
    if action == "make":
        files.create_dir(bucket)
        print(json.dumps({}))
        return
    table = f"{bucket}/{sys.argv[5]}"
    found = pyarrow.dataset.dataset(table, filesystem=files, format="parquet").to_table(columns=["n"])
    print(json.dumps({"rows": sorted(found["n"].to_pylist())}))


if __name__ == "__main__":
    main()
