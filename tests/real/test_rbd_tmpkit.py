import io
import sys

sys.path.insert(0, "/tmp/rbdceph/py")
from imgstore.backends.rbd import RbdStore
from imgstore.testing.conformance import ExtentSuite, ListSuite, ReadSuite, UploadSuite, WriteSuite


class Place:
    def store(self):
        return RbdStore(
            user="images",
            ceph_conf="/tmp/rbdceph/ceph.conf",
            object_size=1 << 20,
            op_timeout=5,
            connect_timeout=5,
        )

    def seed(self, key, data):
        with self.store() as s:
            s.writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        with self.store() as s:
            s.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        with self.store() as s:
            s.writer.delete(key)


class TestRead(Place, ReadSuite):
    pass


class TestWrite(Place, WriteSuite):
    pass


class TestUpload(Place, UploadSuite):
    pass


class TestList(Place, ListSuite):
    pass


class TestExtents(Place, ExtentSuite):
    pass
