"""JSONSerializer makes objects of any class out of data that looks like its own (CVE-2026-31072).

"If you cannot be sure that nobody can maliciously alter the externally stored serialized data, it would be best to
use another serializer", JSON or CBOR (user guide, Using persistent data stores). One expects data to come back as the
data that it was. A dict with the key `_apscheduler_json`, for instance from a web form, comes back as an instance of
a class that the data names, with `__setstate__` called. Which class is up to whoever sent it; here it is one of this
script, which does nothing.
"""

import json
import sys

from apscheduler.serializers.json import JSONSerializer


class Harmless:
    def __setstate__(self, state):
        self.state = state


from_a_web_form = json.loads('{"_apscheduler_json": ["__main__:Harmless", {"chosen": "by the sender"}]}')
serializer = JSONSerializer()
kwargs = serializer.deserialize(serializer.serialize({"form": from_a_web_form}))

print("expected: form is a dict")
print(f"seen: form is a {type(kwargs['form']).__name__}")
sys.exit(kwargs["form"] != from_a_web_form)
