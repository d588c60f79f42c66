"""The files of a skeleton pack, with ``{{CC}}`` and the like where the country goes."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = """
id = "{{ID}}"
version = "0.1.0"
status = "skeleton"
title = "{{NAME}}: skeleton of a law pack, unfilled"
jurisdiction = "{{CC}}"
applies_to = "Nobody has said yet to whom the data protection law of {{NAME}} applies."
requires = ["base"]
classes = ["{{CLASS}}"]
# Name and day of the person who answers for the law in this pack. Until then it says that nobody does.
reviewer = ""

# A skeleton of {{DAY}}: no text of the law of {{NAME}} was opened for it. How to fill it:
# 1. open each law at its official place, enter it as a source with read = "primary", retrieved and the
#    sha256 of what was read; a reprint is read = "copy" and the note says where it is; what was only
#    described is "secondary";
# 2. write @law of each rule, and take its @verified("no") away once its text was read;
# 3. fill the lists, answer the questions in obligations.toml, and extend the cases;
# 4. when every rule rests on a text that was read, status becomes "in-force".

[[source]]
citation = "the data protection law of {{NAME}}"
read = "none"
note = "Not opened. Nothing in this pack comes from it."

[[source]]
citation = "the rules of {{NAME}} on keeping data in the country"
read = "none"
note = "Not opened; whether there are any is a question."

[[source]]
citation = "the sector rules of {{NAME}} (banks, telecoms, health, government)"
read = "none"
note = "Not opened."
"""

POLICIES: Final = """
// {{NAME}}: a skeleton. It denies whatever nobody has allowed by filling it: see pack.toml.
// "unscanned" counts as the highest class: nobody has looked.

@id("{{ID}}.transfer")
@law("not opened")
@text("Personal data stays in {{CC}} until the list of places it may go to has been filled.")
@remedy("use a deployment in {{CC}}, or fill {{ID}}.adequate in facts/lists.toml from the law")
@verified("no")
forbid (
  principal is Allod::App,
  action == Allod::Action::"dispatch",
  resource is Allod::Deployment
)
when { context.classes.containsAny(["personal", "unscanned"]) }
unless {
  resource has processing && !resource.processing.codes.isEmpty() &&
  Allod::List::"{{ID}}.destinations".codes.containsAll(resource.processing.codes) &&
  resource has at_rest &&
  (
    resource.at_rest.nowhere ||
    (
      !resource.at_rest.codes.isEmpty() &&
      Allod::List::"{{ID}}.destinations".codes.containsAll(resource.at_rest.codes)
    )
  )
};

@id("{{ID}}.localised")
@law("not opened")
@text("What must stay in the country is processed, stored and carried in {{CC}}.")
@remedy("use a deployment whose processing, storage and route are all in {{CC}}")
@verified("no")
forbid (
  principal is Allod::App,
  action == Allod::Action::"dispatch",
  resource is Allod::Deployment
)
when { context.classes.containsAny(["{{CLASS}}", "unscanned"]) }
unless {
  resource has processing && !resource.processing.codes.isEmpty() &&
  ["{{CC}}"].containsAll(resource.processing.codes) &&
  resource has at_rest &&
  (
    resource.at_rest.nowhere ||
    (!resource.at_rest.codes.isEmpty() && ["{{CC}}"].containsAll(resource.at_rest.codes))
  ) &&
  resource has transit && !resource.transit.codes.isEmpty() &&
  ["{{CC}}"].containsAll(resource.transit.codes)
};

@id("{{ID}}.processor")
@law("not opened")
@text("Somebody else processes personal data for us only under a contract.")
@remedy("sign a processing contract and enter dpa among the agreements, with grade = \\"contract\\"")
@verified("no")
forbid (
  principal is Allod::App,
  action == Allod::Action::"dispatch",
  resource is Allod::Deployment
)
when { context.classes.containsAny(["personal", "unscanned"]) }
unless { resource.operator.own || resource.agreements.contract.contains("dpa") };

@id("{{ID}}.sensitive")
@law("not opened")
@text("Sensitive data is processed only by an app whose ground is written down.")
@remedy("write down the ground and enter {{GROUND}} among the app's attestations")
@verified("no")
forbid (
  principal is Allod::App,
  action == Allod::Action::"dispatch",
  resource is Allod::Deployment
)
when { context.classes.containsAny(["special", "unscanned"]) }
unless { principal.attestations.declared.contains("{{GROUND}}") };

@id("{{ID}}.sovereignty")
@law("")
@text("Where a least score of sovereignty is set, a deployment reaches it by the weights of this pack.")
@remedy("use a deployment of a higher level, or enter its levels with their evidence: seal = [...]")
@verified("no")
forbid (
  principal is Allod::App,
  action == Allod::Action::"dispatch",
  resource is Allod::Deployment
)
when { principal.tenant has min_seal }
unless { resource has seal && resource.seal.score >= principal.tenant.min_seal.score };
"""

LISTS: Final = """
# Fill the rows from decisions in force: place, since, until, source. An empty list lets nothing by.
[[list]]
id = "{{ID}}.adequate"
text = "places to which the law of {{NAME}} lets personal data go without more"

[[list]]
id = "{{ID}}.destinations"
text = "places where personal data may be"
includes = ["{{ID}}.adequate"]

[[list.row]]
place = "{{CC}}"
source = "not a transfer"
"""

NAMED: Final = """
[[name]]
name = "dpa"
kind = "agreement"
text = "contract on processing for us"

[[name]]
name = "{{GROUND}}"
kind = "attestation"
text = "of an app: the ground for sensitive data is written down; the source names it"
"""

WEIGHTS: Final = """
# Local weights of the eight objectives of a sovereignty vector, in place of those of the EU. They are neutral
# on purpose: somebody of {{NAME}} decides what weighs more.
[[weights]]
id = "{{ID}}.neutral"
objectives = [
  "strategic", "legal and jurisdictional", "data and AI", "operational", "supply chain", "technology",
  "security and compliance", "environmental",
]
percent = [13, 13, 13, 13, 12, 12, 12, 12]
source = "nobody's policy: as equal as whole percents allow; the first four carry the rest"
"""

THEOREMS: Final = """
monotone = true

[[theorem]]
id = "personal-data-stays-until-filled"
text = "Personal data is processed and stored only in the places that have been filled in."
given = 'context.classes.contains("personal")'
holds = '''
resource has processing && Allod::List::"{{ID}}.destinations".codes.containsAll(resource.processing.codes) &&
resource has at_rest && Allod::List::"{{ID}}.destinations".codes.containsAll(resource.at_rest.codes)
'''
fails_without = ["{{ID}}.transfer"]

[[theorem]]
id = "localised-stays"
text = "What must stay in the country is processed, stored and carried there."
given = 'context.classes.contains("{{CLASS}}")'
holds = '''
resource has processing && ["{{CC}}"].containsAll(resource.processing.codes) &&
resource has at_rest && ["{{CC}}"].containsAll(resource.at_rest.codes) &&
resource has transit && ["{{CC}}"].containsAll(resource.transit.codes)
'''
fails_without = ["{{ID}}.localised"]

[[theorem]]
id = "contract-and-ground"
text = "Sensitive personal data in somebody else's hands has a contract and a written ground."
given = 'context.classes.containsAll(["personal", "special"]) && !resource.operator.own'
holds = '''
resource.agreements.contract.contains("dpa") && principal.attestations.declared.contains("{{GROUND}}")
'''
fails_without = ["{{ID}}.processor", "{{ID}}.sensitive"]

[[theorem]]
id = "the-least-score-is-reached"
text = "Where a least score is set, nothing below it or without levels is used."
given = 'principal.tenant has min_seal'
holds = '''
principal.tenant has min_seal && resource has seal && resource.seal.score >= principal.tenant.min_seal.score
'''
fails_without = ["{{ID}}.sovereignty"]
"""

QUESTIONS: Final = """
# Questions that a lawyer of {{NAME}} must answer. Write the article in place of the question, and move it to
# a rule (enforce), to a report (evidence), or leave it out of reach (none) with the reason.

[[obligation]]
article = "question 1: transfer"
mode = "enforce"
rules = ["{{ID}}.transfer"]
note = "May personal data leave {{NAME}}, to which places, and by whose decision? Fill {{ID}}.adequate."

[[obligation]]
article = "question 2: instruments of transfer"
mode = "none"
note = "Which contract or consent carries a transfer, and who approves it? The rule knows none yet."

[[obligation]]
article = "question 3: keeping data in the country"
mode = "enforce"
rules = ["{{ID}}.localised"]
note = "Which data must stay: stored, processed, or both? Label it {{CLASS}}."

[[obligation]]
article = "question 4: processors"
mode = "enforce"
rules = ["{{ID}}.processor"]
note = "What must a contract with a processor hold, and may a processor pass data on?"

[[obligation]]
article = "question 5: sensitive data"
mode = "enforce"
rules = ["{{ID}}.sensitive"]
note = "Which data is sensitive here, and on which grounds may it be processed?"

[[obligation]]
article = "question 6: sovereignty"
mode = "enforce"
rules = ["{{ID}}.sovereignty"]
note = "What do the eight objectives weigh here? Until somebody says, they weigh about the same."

[[obligation]]
article = "question 7: scope"
mode = "none"
note = "To whom does the law apply, and does it reach processing abroad? Write it into applies_to."

[[obligation]]
article = "question 8: dates"
mode = "none"
note = "Which provisions are in force, which come later? Write the day into @since and @until of each rule."

[[obligation]]
article = "question 9: authority"
mode = "none"
note = "Who supervises, must we register there, and appoint somebody?"

[[obligation]]
article = "question 10: rights of the person"
mode = "evidence"
export = "subject"
column = "receipt"
note = "What may a person ask for, and how soon? The report shows the decisions about one person."

[[obligation]]
article = "question 11: record of processing"
mode = "evidence"
export = "gdpr-art30"
column = "recipient"
note = "Must a record be kept, and of what form? The report has the columns of the GDPR's."

[[obligation]]
article = "question 12: record of transfers"
mode = "evidence"
export = "gdpr-art30"
column = "countries"
note = "Must transfers be recorded, with which particulars? The report has the countries of each use."

[[obligation]]
article = "question 13: impact assessment and automated decisions"
mode = "none"
note = "When is an assessment due, and what must a person be able to demand of a decision made by a machine?"

[[obligation]]
article = "question 14: breaches"
mode = "none"
note = "Who must be told of a breach, and how soon? Receipts show what left, when and to whom."

[[obligation]]
article = "question 15: access by the state"
mode = "evidence"
export = "exposure"
column = "statute"
note = "Which statutes of {{NAME}} compel an operator? Name them in facts/statutes.toml."

[[obligation]]
article = "question 16: artificial intelligence"
mode = "none"
note = "Is there a law on artificial intelligence: uses that are banned, notices, marks on what is generated?"

[[obligation]]
article = "question 17: sector rules"
mode = "none"
note = "Which rules for banks, telecoms, health or government bind us? They need packs of their own."
"""

CASES: Final = """
# What the skeleton does as it stands. Extend the cases as it is filled.

[given.tenant]
id = "organisation"
home = "{{CC}}"
bloc = ["{{CC}}"]
resident_classes = []

[given.app]
id = "desk"
attestations = { {{GROUND}} = true }

[given.operator]
id = "rented"
seat = "{{CC}}"
controlled_from = ["{{CC}}"]
compelled_by = []
agreements = { dpa = { value = true, grade = "contract" } }

[given.deployment]
id = "local"
engine = "openai"
model = "m"
processing = "{{CC}}"
at_rest = ["{{CC}}"]
transit = ["{{CC}}"]
on_premises = false
records_auditable = { value = true, grade = "attested" }
inspectable = { value = true, grade = "attested" }
seal = [2, 2, 2, 2, 2, 2, 2, 2]

[[case]]
name = "in the country with contract and ground"
decision = "allow"
day = {{DAY}}
classes = ["{{CLASS}}", "special"]
covers = ["{{ID}}.transfer", "{{ID}}.localised", "{{ID}}.processor", "{{ID}}.sensitive"]

[[case]]
name = "elsewhere: the list is empty"
decision = "deny"
day = {{DAY}}
classes = ["personal"]
rules = ["{{ID}}.transfer"]
set = { "deployment.processing" = "{{OTHER}}" }

[[case]]
name = "stored elsewhere"
decision = "deny"
day = {{DAY}}
classes = ["personal"]
rules = ["{{ID}}.transfer"]
set = { "deployment.at_rest" = ["{{CC}}", "{{OTHER}}"] }

[[case]]
name = "a place nobody has declared"
decision = "deny"
day = {{DAY}}
classes = ["personal"]
rules = ["{{ID}}.transfer"]
unset = ["deployment.processing"]

[[case]]
name = "localised data over a line through another country"
decision = "deny"
day = {{DAY}}
classes = ["{{CLASS}}"]
rules = ["{{ID}}.localised"]
set = { "deployment.transit" = ["{{CC}}", "{{OTHER}}"] }

[[case]]
name = "no contract"
decision = "deny"
day = {{DAY}}
classes = ["personal"]
rules = ["{{ID}}.processor"]
unset = ["operator.agreements"]

[[case]]
name = "our own machine needs no contract with ourselves"
decision = "allow"
day = {{DAY}}
classes = ["personal"]
covers = ["{{ID}}.processor"]
set = { "operator.own" = true }
unset = ["operator.agreements"]

[[case]]
name = "no written ground"
decision = "deny"
day = {{DAY}}
classes = ["special"]
rules = ["{{ID}}.sensitive"]
unset = ["app.attestations"]

[[case]]
name = "the least score is reached"
decision = "allow"
day = {{DAY}}
classes = ["public"]
covers = ["{{ID}}.sovereignty"]
set = { "tenant.min_seal_score" = "2.0" }

[[case]]
name = "the least score is missed"
decision = "deny"
day = {{DAY}}
classes = ["public"]
rules = ["{{ID}}.sovereignty"]
set = { "tenant.min_seal_score" = "2.01" }

[[case]]
name = "nobody looked: it counts as sensitive"
decision = "deny"
day = {{DAY}}
classes = ["unscanned"]
rules = ["{{ID}}.sensitive"]
unset = ["app.attestations"]

[[case]]
name = "a press release goes anywhere"
decision = "allow"
day = {{DAY}}
classes = ["public"]
set = { "deployment.processing" = "{{OTHER}}" }
unset = ["app.attestations", "operator.agreements"]
"""
