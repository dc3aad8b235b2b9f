"""The driver's options, as an operator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends._http.options import network_options
from imgstore.backends.s3.integrity import CHOICES
from imgstore.store import LazyOptions

if TYPE_CHECKING:
    from oslo_config.cfg import Opt


ADDRESSING: Final = ("auto", "virtual", "path")
ACLS: Final = (
    "private",
    "authenticated-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "public-read",
)


def _place() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "bucket",
            help="The bucket that holds the images. The key of an image is the object's key in it, after "
            "'prefix'. Objects whose keys begin with '.imgstore/' there are the driver's own records of "
            "uploads that are not complete; they are never listed as images.",
            sample_default="images",
        ),
        cfg.StrOpt(
            "prefix",
            default="",
            help="What the keys of all objects of this store begin with, so that several stores can share a "
            "bucket. It goes before an image's key as it stands; one that ends with a slash is a folder.",
            sample_default="glance/",
        ),
        cfg.StrOpt(
            "endpoint_url",
            help="The service: an http or https URL without a path. Without it, boto3's own rules decide: "
            "AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL in the environment, then boto3's configuration files, "
            "then AWS itself, in 'region'.",
            sample_default="https://s3.example.org",
        ),
        cfg.StrOpt(
            "region",
            help="The region that requests are signed for. Without it, AWS_DEFAULT_REGION, then boto3's "
            "configuration files, then us-east-1. Most services other than AWS take any.",
            sample_default="eu-central-1",
        ),
        cfg.StrOpt(
            "addressing",
            default="auto",
            choices=ADDRESSING,
            help="Where a request names the bucket: 'virtual' in the host's name, which needs a name server "
            "and a certificate that know bucket.host; 'path' in the path, as most services of one's own "
            "want it; 'auto' as boto3's files say (addressing_style), else in the path where an endpoint is "
            "given, and in the host's name of AWS.",
        ),
        cfg.BoolOpt(
            "create_bucket",
            default=False,
            help="Whether a bucket that is not there is made when the first image is stored. Leave it off "
            "where buckets come with policies, quotas or lifecycle rules.",
        ),
    )


def _credentials() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "access_key",
            secret=True,
            help="The access key ID. With 'secret_key' it goes before all other credentials; without both, "
            "boto3's ordinary chain is asked: environment, files, roles, containers, instances. Keys in "
            "files (access_key_file and its kin) are read for each request, so that what another program "
            "renews counts at once.",
        ),
        cfg.StrOpt("secret_key", secret=True, help="The secret access key that belongs to 'access_key'."),
        cfg.StrOpt(
            "session_token",
            secret=True,
            help="The session token that belongs to temporary keys, with 'access_key' and 'secret_key'. "
            "Where it expires, use session_token_file and renew all three.",
        ),
        cfg.StrOpt(
            "profile",
            help="The profile of boto3's files (~/.aws/config, ~/.aws/credentials) that credentials, region "
            "and endpoint are taken from where no option here gives them.",
        ),
    )


def _objects() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.IntOpt(
            "upload_part_size",
            default=16 << 20,
            min=5 << 20,
            max=5 << 30,
            help="Bytes of each part of a large image. An image that fits in one is stored by a single "
            "request. Parts of an image above 10,000 times this are larger, as many as S3 takes at most; "
            "those of an image whose size is not known grow with it.",
        ),
        cfg.IntOpt(
            "max_concurrency",
            default=4,
            min=1,
            max=64,
            help="Parts of one image that are sent at a time. It takes (max_concurrency + 1) x "
            "upload_part_size of memory for each image that is being stored; with 1 there is no thread, and "
            "one upload_part_size.",
        ),
        cfg.StrOpt(
            "storage_class",
            help="The storage class of new objects, such as STANDARD_IA. Without it the service decides. "
            "Images in archives (GLACIER, DEEP_ARCHIVE) cannot be read without being restored first.",
        ),
        cfg.StrOpt(
            "server_side_encryption",
            choices=("AES256", "aws:kms", "aws:kms:dsse"),
            help="How the service encrypts new objects: with keys of its own (AES256) or of its key "
            "management (aws:kms). Without it the bucket's own setting holds.",
        ),
        cfg.StrOpt(
            "sse_kms_key_id",
            help="The key for 'aws:kms', by ID, ARN or alias; without it the service's default key.",
        ),
        cfg.StrOpt(
            "acl",
            choices=ACLS,
            help="The canned ACL of new objects. Without it none is sent, which buckets whose ACLs are "
            "disabled ask for.",
        ),
        cfg.StrOpt(
            "request_checksum_calculation",
            default="when_supported",
            choices=CHOICES,
            help="What lets the service compare the bytes it received. 'when_supported' sends a CRC32 in a "
            "header, never as a trailer; 'when_required' sends none, for services that refuse it; 'md5' "
            "sends Content-MD5, for services that check nothing else. Whatever is sent, the checksum or "
            "ETag in the reply is compared with the bytes, unless the service encrypts with a key of KMS "
            "and tells neither.",
        ),
        cfg.BoolOpt(
            "conditional_writes",
            default=True,
            help="Whether 'If-None-Match: *' goes with each object that must not replace another. The driver "
            "looks whether the key is taken in any case; where the service does not know this header, two "
            "writers of one key at the same moment may both succeed, and the last one wins. Switch it off "
            "for a service that answers it with an error.",
        ),
    )


def _network() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        *network_options(client_certificate=False),
        cfg.FloatOpt(
            "finish_timeout",
            default=120.0,
            min=1.0,
            help="Seconds that the service may take to join the parts of an image, or to copy one, before it "
            "begins its reply.",
        ),
    )


def _options() -> Sequence[Opt]:
    return (*_place(), *_credentials(), *_objects(), *_network())


OPTIONS: Final = LazyOptions(_options)
