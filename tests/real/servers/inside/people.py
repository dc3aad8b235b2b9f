"""Tells a running Keystone who its users are, and where the object store is: people.py URL users|endpoint ...

SERVER_PASSWORD is the secret of all of them, and the administrator's.
"""

import os
import shlex
import sys

from keystoneauth1.identity import v3
from keystoneauth1.session import Session

DOMAIN = "default"
# user, the project it belongs to, its role there
USERS = [
    # Keystone tells nobody else whose a token is.
    ("swift", "service", "admin"),
    ("tester", "test", "member"),
    ("reader", "test", "reader"),
    ("other", "other", "member"),
]


def login(url, user, project):
    """Gives a session of a user in a project."""
    return Session(
        v3.Password(
            url,
            username=user,
            password=os.environ["SERVER_PASSWORD"],
            user_domain_id=DOMAIN,
            project_name=project,
            project_domain_id=DOMAIN,
        )
    )


class Identity:
    """The administrator's view of an identity service."""

    def __init__(self, url):
        self.url = url
        self.session = login(url, "admin", "admin")

    def make(self, kind, session=None, path="", **facts):
        """Makes one of a kind ("user"), and gives its facts."""
        session = session or self.session
        return session.post(f"{self.url}/{path}{kind}s", json={kind: facts}).json()[kind]

    def find(self, kind, **filters):
        """Gives the facts of the first of a kind, or none."""
        return next(iter(self.session.get(f"{self.url}/{kind}s", params=filters).json()[f"{kind}s"]), None)

    def users(self):
        """Makes the users, and gives the application credential of one of them as lines for a shell."""
        ids = {}
        for name, project, role in USERS:
            home = self.find("project", name=project) or self.make("project", name=project, domain_id=DOMAIN)
            user = self.make("user", name=name, domain_id=DOMAIN, password=os.environ["SERVER_PASSWORD"])
            its = self.find("role", name=role)
            self.session.put(f"{self.url}/projects/{home['id']}/users/{user['id']}/roles/{its['id']}")
            ids[name] = user["id"]
        secret = os.environ["SERVER_PASSWORD"]
        made = self.make(
            "application_credential",
            # Nobody but the user may: not even the administrator.
            session=login(self.url, "tester", "test"),
            path=f"users/{ids['tester']}/",
            name="images",
            secret=secret,
        )
        print(f"export KEYSTONE_CREDENTIAL_ID={made['id']} KEYSTONE_CREDENTIAL_SECRET={shlex.quote(secret)}")

    def endpoint(self, url, region="RegionOne"):
        """Has the catalog name the object store at `url`; one that was there in the region is replaced."""
        # Made by its name, which is no failure where it is there already.
        self.session.put(f"{self.url}/regions/{region}", json={"region": {}}, raise_exc=False)
        service = self.find("service", type="object-store") or self.make(
            "service", name="swift", type="object-store"
        )
        # The internal one is what Swift's own keystonemiddleware looks for.
        for interface in ("public", "internal"):
            facts = {"service_id": service["id"], "interface": interface}
            if old := self.find("endpoint", region_id=region, **facts):
                self.session.delete(f"{self.url}/endpoints/{old['id']}")
            self.make("endpoint", url=f"{url}/v1/KEY_%(project_id)s", region_id=region, **facts)


def main(url, task, *arguments):
    getattr(Identity(url), task)(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
